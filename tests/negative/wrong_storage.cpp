// expect: kvkeep: a distance rule's `storage` must be
#include <kvkeep/kvkeep.hpp>

struct half_distance {
  kvkeep::position operator()(const kvkeep::key_place& k) const { return k.age() / 2; }
#ifdef KVKEEP_GOOD
  kvkeep::key_storage storage(const kvkeep::retention&) const { return {.scattered = true}; }
#else
  bool storage() const { return true; }
#endif
};

int main() {
  const kvkeep::policy policy{kvkeep::recent{9}, kvkeep::read_all{}, half_distance{}};
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, policy);
  return cache ? 0 : 1;
}
