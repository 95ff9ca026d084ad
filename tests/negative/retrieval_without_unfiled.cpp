// expect: kvkeep: retrieve_blocks goes with kvkeep::keep{kvkeep::sinks{...}, kvkeep::unfiled{...}} as its retain rules
#include <kvkeep/kvkeep.hpp>

int main() {
#ifdef KVKEEP_GOOD
  const kvkeep::unfiled rest{{1, 9, 4}};
#else
  const kvkeep::recent rest{9};
#endif
  const auto cache = kvkeep::try_make_cache(
      {1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::sinks{1}, rest}, kvkeep::retrieve_blocks<>{.max_tokens = 99},
                                   kvkeep::beyond{9, 8}});
  return cache ? 0 : 1;
}
