// expect: kvkeep: a retain rule's `scope` must be
#include <kvkeep/kvkeep.hpp>

struct rule {
#ifdef KVKEEP_GOOD
  static constexpr kvkeep::scope scope = kvkeep::scope::layer;
#else
  static constexpr int scope = 1;
#endif
  std::size_t share() const { return 3; }
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
