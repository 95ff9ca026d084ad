// expect: kvkeep: keep_all keeps every token and stands alone
#include <kvkeep/kvkeep.hpp>

int main() {
#ifdef KVKEEP_GOOD
  const kvkeep::policy policy{kvkeep::keep_all{9}};
#else
  const kvkeep::policy policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::keep_all{9}}};
#endif
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, policy);
  return cache ? 0 : 1;
}
