// expect: kvkeep: nobody supplies the evidence this retain rule consumes
#include <kvkeep/kvkeep.hpp>

struct rule {
#ifdef KVKEEP_GOOD
  using evidence = kvkeep::surprisal;
#else
  using evidence = kvkeep::attention_mass;
#endif
  using column = float;
  std::size_t share() const { return 3; }
  float admit(float e) const { return e; }
  double rank(const kvkeep::held_token&, float e) const { return static_cast<double>(e); }
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
