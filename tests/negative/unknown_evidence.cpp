// expect: kvkeep: a retain rule's `evidence` must be one of those
#include <kvkeep/kvkeep.hpp>

struct rule {
#ifdef KVKEEP_GOOD
  using evidence = kvkeep::no_evidence;
#else
  using evidence = int;
#endif
  std::size_t share() const { return 3; }
};

int main() {
  const auto cache = kvkeep::try_make_cache({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, rule{}}});
  return cache ? 0 : 1;
}
