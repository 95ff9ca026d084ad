// expect: kvkeep: a policy needs `rules()`
#include <kvkeep/kvkeep.hpp>

int main() {
#ifdef KVKEEP_GOOD
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::recent{9}});
#else
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::recent{9});  // a rule, not a policy
#endif
  return cache ? 0 : 1;
}
