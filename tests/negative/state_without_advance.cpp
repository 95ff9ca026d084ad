// expect: kvkeep: a retain rule with a trivially copyable `state` needs
#include <kvkeep/kvkeep.hpp>

struct rule {
#ifdef KVKEEP_GOOD
  int advance(int s, const kvkeep::held_token&) const { return s + 1; }
#else
  void advance(int&) const {}
#endif
  using state = int;
  std::size_t share() const { return 3; }
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
