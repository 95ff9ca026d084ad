// expect: kvkeep: a select rule must be read_all, retrieve_blocks, middle_top_k, nearest_keys or have `bool reads(position query, position key) const`
#include <kvkeep/kvkeep.hpp>

struct even_keys {
#ifdef KVKEEP_GOOD
  bool reads(kvkeep::position query, kvkeep::position key) const { return key == query || key % 2 == 0; }
#else
  bool reads(kvkeep::position key) const { return key % 2 == 0; }
#endif
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::recent{9}, even_keys{}});
  return cache ? 0 : 1;
}
