// expect: kvkeep: a rule's `check` must be
#include <kvkeep/kvkeep.hpp>

struct rule {
#ifdef KVKEEP_GOOD
  kvkeep::result<void> check() const { return {}; }
#else
  bool check() const { return false; }
#endif
  std::size_t share() const { return 3; }
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
