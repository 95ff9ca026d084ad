// expect: nodiscard
// flags: -Werror=unused-result
#include <kvkeep/kvkeep.hpp>

int main() {
  auto plan = kvkeep::make_planner({1, 1, 1, 8}, kvkeep::sliding_window{.window = 3});
#ifdef KVKEEP_GOOD
  return plan.try_begin(1) ? 0 : 1;
#else
  plan.try_begin(1);
#endif
}
