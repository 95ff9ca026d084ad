// expect: kvkeep: a retain rule's `rank` must be
#include <kvkeep/kvkeep.hpp>

struct rule {
  std::size_t share() const { return 3; }
#ifdef KVKEEP_GOOD
  double rank(const kvkeep::held_token& t) const { return -static_cast<double>(t.number); }
#else
  double rank(const kvkeep::held_token& t) { return -static_cast<double>(t.number); }  // not const
#endif
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
