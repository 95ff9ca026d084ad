// expect: kvkeep: a select rule must be read_all, retrieve_blocks, middle_top_k, nearest_keys or have `bool reads(position query, position key) const`, or
#include <kvkeep/kvkeep.hpp>

struct by_turns {
  std::size_t variants() const { return 2; }
#ifdef KVKEEP_GOOD
  std::size_t variant(const kvkeep::unit_place& place) const { return place.layer % 2; }
#else
  std::size_t variant(std::size_t layer) const { return layer % 2; }
#endif
  bool reads(std::size_t variant, kvkeep::position query, kvkeep::position key) const {
    return variant == 0 || query - key < 4;
  }
};

int main() {
  const auto cache = kvkeep::try_make_cache({2, 1, 1, 8}, kvkeep::policy{kvkeep::recent{9}, by_turns{}});
  return cache ? 0 : 1;
}
