// expect: kvkeep: a retain rule's `start` must be `state start() const` or
#include <kvkeep/kvkeep.hpp>

struct half {
  using state = kvkeep::position;
  std::size_t share() const { return 9; }
#ifdef KVKEEP_GOOD
  state start(const kvkeep::unit_place& place) const { return static_cast<state>(place.layer); }
#else
  state start(std::size_t layer) const { return static_cast<state>(layer); }
#endif
  state advance(state s, const kvkeep::held_token&) const { return s + 1; }
  bool claims(const kvkeep::held_token& t, state s) const { return 2 * t.number >= s; }
};

int main() {
  const auto planner = kvkeep::try_make_planner({1, 1, 1, 8}, kvkeep::policy{half{}});
  return planner ? 0 : 1;
}
