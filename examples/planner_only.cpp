// planner_only: an engine that owns its memory takes decisions from the planner and does the copying itself.
#include <fmt/core.h>

#include <vector>

#include "kvkeep/kvkeep.hpp"

namespace {

/// The engine's memory: one row a slot, as it may have had them all along.
struct engine_rows {
  std::vector<float> keys;  // [slots][width]
  std::size_t width;

  void write(kvkeep::slot s, float value) {
    for (std::size_t c = 0; c < width; ++c) keys[kvkeep::index(s) * width + c] = value;
  }
  void copy(kvkeep::slot from, kvkeep::slot to) {
    for (std::size_t c = 0; c < width; ++c) keys[kvkeep::index(to) * width + c] = keys[kvkeep::index(from) * width + c];
  }
};

}  // namespace

int main() {
  auto plan = kvkeep::make_planner({.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 8},
                                   kvkeep::lm_infinite{.sinks = 4, .window = 60}, {.max_step = 32});
  engine_rows memory{std::vector<float>(plan.planned_blocks() * kvkeep::block_tokens * 8), 8};
  std::size_t read = 0;
  std::size_t moved = 0;
  for (int step = 0; step < 50; ++step) {
    plan.begin(32);
    auto token = static_cast<float>(plan.next_position());
    for (const kvkeep::slot s : plan.new_slots(0)) memory.write(s, token++);
    for (std::size_t query = 0; query < 32; ++query) {
      const kvkeep::query_view view = plan.view(0, query);  // spans of slots and distances, for the engine's kernel
      read += view.keys;
    }
    plan.commit();
    for (const kvkeep::token_move& m : plan.last().moves) memory.copy(m.from, m.to);
    moved += plan.last().moves.size();
  }
  fmt::print("{} keys read; {} rows moved; {} tokens in {} blocks\n", read, moved, plan.held_count(),
             plan.block_count());
  for (const kvkeep::slot s : plan.held_slots()) {
    if (memory.keys[kvkeep::index(s) * 8] != static_cast<float>(plan.position_of(s))) return 1;
  }
  return 0;
}
