// expect: kvkeep: a retain rule needs `std::size_t share() const`
#include <kvkeep/kvkeep.hpp>

struct rule {
#ifdef KVKEEP_GOOD
  std::size_t share() const { return 3; }
#else
  std::size_t share() { return 3; }  // a near miss: not const
#endif
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::sinks{1}, rule{}}});
  return cache ? 0 : 1;
}
