// expect: kvkeep: a retain rule's `claims` must be
#include <kvkeep/kvkeep.hpp>

struct rule {
  std::size_t share() const { return 3; }
#ifdef KVKEEP_GOOD
  bool claims(const kvkeep::held_token& t) const { return t.number < 3; }
#else
  bool claims(kvkeep::position p, int) const { return p < 3; }
#endif
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
