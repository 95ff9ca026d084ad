// expect: kvkeep: a distance rule needs `position operator()(const kvkeep::key_place&) const`
#include <kvkeep/kvkeep.hpp>

struct half_distance {
#ifdef KVKEEP_GOOD
  kvkeep::position operator()(const kvkeep::key_place& k) const { return k.age() / 2; }
#else
  kvkeep::position operator()(kvkeep::position query, kvkeep::position key) const { return (query - key) / 2; }
#endif
};

int main() {
  const kvkeep::policy policy{kvkeep::recent{9}, kvkeep::read_all{}, half_distance{}};
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, policy);
  return cache ? 0 : 1;
}
