// Sinks and a ring of slots, of another library: its slot map, and which tokens a query sees.
#include <algorithm>

#include "golden.hpp"
#include "stream.hpp"

namespace golden {
namespace {

bool contains(const positions& list, position p) { return std::find(list.begin(), list.end(), p) != list.end(); }

/// The peer's slot of a position, in a ring of `ring` slots behind the sinks.
position slot_of(position p, std::size_t sinks, std::size_t ring) {
  const position s = to_position(sinks);
  return p < s ? p : s + (p - s) % to_position(ring);
}

positions slots_of(const positions& at, std::size_t sinks, std::size_t ring) {
  positions out;
  for (const position p : at) out.push_back(slot_of(p, sinks, ring));
  return sorted(out);
}

void run_slots(const std::string& id, const json& row, tally& counted, row_count& rows) {
  const std::size_t sinks = count_field(row, "sink_size");
  const std::size_t size = count_field(row, "cache_size");
  require(size > sinks, "{}: no ring", id);
  const json& writes = list_field(row, "writes");
  std::size_t longest = 1;
  for (const json& write : writes) longest = (std::max)(longest, count_field(write, "count"));
  auto plan = plan_of(kvkeep::streaming_llm{.sinks = sinks, .window = size - sinks}, longest);
  bool plain = true;
  for (const json& write : writes) {
    const position start = to_position(count_field(write, "start"));
    const std::size_t count = count_field(write, "count");
    positions slots;
    for (const position p : range(start, start + to_position(count))) slots.push_back(slot_of(p, sinks, size - sinks));
    counted.same(id + ": slots", slots, positions_field(write, "expect_slots"));
    if (start != plan.next_position()) {
      plain = false;
      plan.clear();
      feed_all(plan, static_cast<std::size_t>(start), longest);
    }
    (void)feed(plan, count);
  }
  const positions held = plan.held();
  positions filled = slots_of(held, sinks, size - sinks);
  require(std::unique(filled.begin(), filled.end()) == filled.end(), "{}: two tokens held would share a slot", id);
  if (has(row, "expect_positions")) {
    const json& expected = list_field(row, "expect_positions");
    positions at;
    for (std::size_t s = 0; s < expected.size(); ++s) {
      if (expected[s] == -1) continue;
      at.push_back(to_position(as_count(expected[s], "expect_positions")));
      counted.same(id + ": slot of a position", static_cast<std::size_t>(slot_of(at.back(), sinks, size - sinks)), s);
    }
    if (plain) counted.same(id + ": positions held", held, sorted(at));
  } else {
    for (const auto& item : field(row, "expect_position_at_slot").items()) {
      const std::string slot = item.key();
      const auto p = to_position(as_count(item.value(), "expect_position_at_slot"));
      require(std::to_string(slot_of(p, sinks, size - sinks)) == slot, "{}: slot {} does not hold {}", id, slot, p);
      require(contains(held, p), "{}: position {} is not held", id, p);
    }
    if (plain) {
      const auto last = static_cast<position>(plan.next_position()) - 1;
      counted.same(id + ": positions held", held, sinks_and_window(last, sinks, size - sinks));
    }
  }
  if (plain) {
    rows.compared();
  } else {
    for (const position p :
         range(plan.next_position() - to_position(count_field(writes.back(), "count")), plan.next_position())) {
      require(contains(held, p), "{}: position {} is not held", id, p);
    }
    rows.beside(id, "writes that are no plain stream (one starts where the one before did not end)",
                "a stream fed from its start to there, which holds what was written, in the same slots of a ring");
  }
}

void run_ring_mask(const std::string& id, const json& row, tally& counted, row_count& rows) {
  const std::size_t sinks = count_field(row, "sink_size");
  const std::size_t window = count_field(row, "window");
  const std::size_t size = count_field(row, "cache_size");
  require(size == sinks + 2 * window, "{}: cache_size", id);
  auto plan = plan_of(kvkeep::streaming_llm{.sinks = sinks, .window = window}, size);
  std::vector<query_reads> reads;
  for (const json& write : list_field(row, "writes")) {
    require(write.is_array() && write.size() == 2, "{}: a write is [start, count]", id);
    require(to_position(as_count(write[0], "start")) == plan.next_position(), "{}: not a plain stream", id);
    for (query_reads& r : feed(plan, as_count(write[1], "count"))) reads.push_back(std::move(r));
  }
  const std::size_t first = count_field(row, "query_start");
  const std::size_t n = count_field(row, "query_len");
  require(n >= 1 && first + n <= reads.size(), "{}: queries that were not written", id);
  const json& expect = field(row, "expect");
  for (std::size_t i = 0; i < n; ++i) {
    const positions ours = slots_of(positions_of(reads[first + i]), sinks, 2 * window);
    if (has(expect, "visible_slots_include")) {
      for (const position s : positions_field(expect, "visible_slots_include")) {
        require(contains(ours, s), "{}: slot {} is not visible", id, s);
      }
      counted.same(id + ": our rule", positions_of(reads[first + i]),
                   sinks_and_window(to_position(first + i), sinks, window));
    } else {
      const json& visible = list_field(expect, "visible_slots");
      counted.same(id + ": queries", visible.size(), n);
      positions expected;
      for (const json& s : visible[i]) expected.push_back(to_position(as_count(s, "visible_slots")));
      counted.same(fmt::format("{}: slots visible to query {}", id, first + i), ours, sorted(expected));
    }
  }
  rows.compared();
}

/// Whether consecutive rows of the peer's table differ by 1.
bool jumps(const positions& rows) {
  for (std::size_t i = 1; i < rows.size(); ++i) {
    if (rows[i] != rows[i - 1] + 1) return true;
  }
  return false;
}

/// Our distances for `count` tokens from `start` on: true ones, by both rules, wherever the peer's ring wraps.
void check_true_distances(const std::string& id, std::size_t start, std::size_t count, std::size_t sinks,
                          std::size_t window, tally& counted) {
  auto exact = plan_of(kvkeep::streaming_llm{.sinks = sinks, .window = 2 * window}, count);
  auto all_true = plan_of(kvkeep::policy{kvkeep::keep{kvkeep::sinks{sinks}, kvkeep::recent{2 * window}}}, count);
  feed_all(exact, start, count);
  feed_all(all_true, start, count);
  const std::vector<query_reads> in_cache = feed(exact, count);
  const std::vector<query_reads> in_stream = feed(all_true, count);
  for (std::size_t i = 0; i < count; ++i) {
    const position query = to_position(start + i);
    counted.same(id + ": our rule", positions_of(in_cache[i]), sinks_and_window(query, sinks, 2 * window));
    counted.same(id + ": the same keys", positions_of(in_stream[i]), positions_of(in_cache[i]));
    for (const key_read& r : in_stream[i]) {
      require(r.away == query - r.at, "{}: key {} of query {} is {} away", id, r.at, query, r.away);
    }
    for (const key_read& r : in_cache[i]) {
      if (query - r.at >= to_position(2 * window)) continue;
      require(r.away == query - r.at, "{}: key {} of query {} is {} away in the cache", id, r.at, query, r.away);
    }
  }
}

void run_rope_rows(const std::string& id, const std::string& kind, const json& row, tally& counted, row_count& rows) {
  const std::size_t sinks = count_field(row, "sink_size");
  const std::size_t window = count_field(row, "window");
  const std::size_t count = count_field(row, "count");
  require(count >= 1, "{}: no tokens", id);
  const auto remapped = [&](std::size_t start) {
    positions out;
    for (std::size_t i = 0; i < count; ++i) out.push_back(slot_of(to_position(start + i), sinks, 2 * window));
    return out;
  };
  if (kind == "rope_rows") {
    const std::size_t start = count_field(row, "start");
    counted.same(id + ": rows", remapped(start), positions_field(field(row, "expect"), "rows"));
    check_true_distances(id, start, count, sinks, window, counted);
  } else {
    std::size_t with_a_jump = 0;
    for (std::size_t start = 0; start < count_field(row, "starts"); ++start) {
      if (jumps(remapped(start))) ++with_a_jump;
      check_true_distances(id, start, count, sinks, window, counted);
    }
    counted.same(id + ": chunks with a jump", with_a_jump, count_field(field(row, "expect"), "chunks_with_a_jump"));
  }
  rows.beside(id,
              "RoPE rows taken modulo the ring, which breaks distances where it wraps (a known defect of that peer)",
              "the rows are no more than its slot map; distances stay true across the wrap");
}

}  // namespace

report run_et_attention_sink_ring(const json& file) {
  tally counted;
  row_count rows;
  for (const json& row : list_field(file, "cases")) {
    const std::string id = text_field(row, "id");
    const std::string kind = text_field(row, "kind");
    if (kind == "slots") {
      run_slots(id, row, counted, rows);
    } else if (kind == "mask") {
      run_ring_mask(id, row, counted, rows);
    } else {
      require(kind == "rope_rows" || kind == "rope_sweep", "{}: unknown kind {}", id, kind);
      run_rope_rows(id, kind, row, counted, rows);
    }
  }
  return {false, rows.summary(field(file, "cases").size(), counted)};
}

}  // namespace golden
