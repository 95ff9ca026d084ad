// expect: kvkeep: a retain rule's `end_step` must be
#include <kvkeep/kvkeep.hpp>

struct rule {
  using evidence = kvkeep::surprisal;
  using column = float;
  std::size_t share() const { return 3; }
  float admit(float e) const { return e; }
  double rank(const kvkeep::held_token&, float e) const { return static_cast<double>(e); }
#ifdef KVKEEP_GOOD
  float end_step(float e) const { return e / 2; }
#else
  void end_step(float& e) const { e /= 2; }
#endif
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
