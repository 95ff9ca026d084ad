// expect: kvkeep: `when` must be each_token, before_step, after_step
#include <kvkeep/kvkeep.hpp>

struct sometimes {
#ifdef KVKEEP_GOOD
  static constexpr bool chunk_invariant = false;
#endif
  kvkeep::schedule schedule() const { return {kvkeep::schedule::act::after_step}; }
};

int main() {
  const kvkeep::policy policy{kvkeep::recent{9}, kvkeep::read_all{}, kvkeep::true_distance{}, sometimes{}};
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, policy);
  return cache ? 0 : 1;
}
