// expect: kvkeep: a select rule that reads what was dropped from a window needs kvkeep::beyond as its distance
#include <kvkeep/kvkeep.hpp>

int main() {
#ifdef KVKEEP_GOOD
  const kvkeep::beyond distance{9, 8};
#else
  const kvkeep::true_distance distance{};
#endif
  const auto cache = kvkeep::try_make_cache(
      {1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::sinks{1}, kvkeep::recent{9}},
                                   kvkeep::middle_top_k{.layers = {0, 1}, .max_tokens = 99}, distance});
  return cache ? 0 : 1;
}
