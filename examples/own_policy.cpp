// own_policy: a retain rule of one's own, in a policy with the library's rules, compared with the window alone.
#include <fmt/core.h>

#include "kvkeep/kvkeep.hpp"

/// Keeps every n-th token of the past: a thin memory of all that was said, `tokens` of it at most.
struct landmarks {
  std::size_t every = 32;
  std::size_t tokens = 16;

  [[nodiscard]] std::size_t share() const { return tokens; }
  [[nodiscard]] bool claims(const kvkeep::held_token& t) const {
    return t.number % static_cast<kvkeep::position>(every) == 0;
  }
};

int main() {
  const kvkeep::policy mine{kvkeep::keep{kvkeep::sinks{4}, kvkeep::recent{44}, landmarks{}}, kvkeep::read_all{},
                            kvkeep::cache_distance{}, kvkeep::each_token{}};
  auto plan = kvkeep::make_planner({.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 64}, mine);
  for (int i = 0; i < 1000; ++i) {
    plan.begin(1);
    plan.commit();
  }
  for (const kvkeep::position p : plan.held()) fmt::print("{} ", p);
  fmt::print("\n{} tokens held, at most {}\n", plan.held_count(), plan.capacity());
  return plan.held_count() == 64 && plan.held()[4] == 448 && plan.held()[19] == 928 ? 0 : 1;
}
