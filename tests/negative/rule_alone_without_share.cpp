// expect: kvkeep: a retain rule needs `std::size_t share() const`
#include <kvkeep/kvkeep.hpp>

struct rule {
#ifdef KVKEEP_GOOD
  std::size_t share() const { return 3; }
#endif
};

int main() {
  const auto plan = kvkeep::try_make_planner({1, 1, 1, 8}, kvkeep::policy{rule{}});
  return plan ? 0 : 1;
}
