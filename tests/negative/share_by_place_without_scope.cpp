// expect: kvkeep: a retain rule whose `share` depends on the place needs
#include <kvkeep/kvkeep.hpp>

struct rule {
#ifdef KVKEEP_GOOD
  static constexpr kvkeep::scope scope = kvkeep::scope::layer;
#else
  // no scope
#endif
  std::size_t share(const kvkeep::unit_place& p) const { return 3 + p.layer; }
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
