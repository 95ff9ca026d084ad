// expect: kvkeep: a select rule's `label` must be
#include <kvkeep/kvkeep.hpp>

struct even_keys {
  bool reads(kvkeep::position query, kvkeep::position key) const { return key == query || key % 2 == 0; }
#ifdef KVKEEP_GOOD
  kvkeep::key_label label(kvkeep::position, kvkeep::position) const { return kvkeep::key_label::retrieved; }
#else
  int label(kvkeep::position, kvkeep::position) const { return 2; }
#endif
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::recent{9}, even_keys{}});
  return cache ? 0 : 1;
}
