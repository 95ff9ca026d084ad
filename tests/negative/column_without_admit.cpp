// expect: kvkeep: a retain rule with a `column` needs `column admit(float evidence) const`
#include <kvkeep/kvkeep.hpp>

struct rule {
  using evidence = kvkeep::surprisal;
  using column = float;
  std::size_t share() const { return 3; }
#ifdef KVKEEP_GOOD
  float admit(float e) const { return e; }
#endif
  double rank(const kvkeep::held_token&, float e) const { return static_cast<double>(e); }
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
