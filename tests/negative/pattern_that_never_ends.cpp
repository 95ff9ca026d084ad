// expect: kvkeep: still_read needs a pattern with `position last_reader(position key) const` or
#include <kvkeep/kvkeep.hpp>

struct neighbours {
  bool reads(kvkeep::position query, kvkeep::position key) const { return query - key <= 1; }
#ifdef KVKEEP_GOOD
  kvkeep::position last_reader(kvkeep::position key) const { return key + 1; }
#endif
};

int main() {
  const auto planner = kvkeep::try_make_planner(
      {1, 1, 1, 8}, kvkeep::policy{kvkeep::still_read<neighbours>{neighbours{}, 100}, neighbours{}});
  return planner ? 0 : 1;
}
