// expect: kvkeep: attention_evidence needs a cache whose policy is known at compile time, not any_cache
#include <kvkeep/kvkeep.hpp>

int main() {
  const kvkeep::model_shape shape{1, 1, 1, 8};
#ifdef KVKEEP_GOOD
  auto cache = kvkeep::make_cache(shape, kvkeep::dense{.max_tokens = 16});
#else
  auto cache = kvkeep::make_cache(shape, kvkeep::parse_policy("dense:max_tokens=16"));
#endif
  kvkeep::attention_evidence<kvkeep::by_products{.mass = true}> evidence({1, 1, 528, 512, 64, 1});
  const float row[8] = {};
  float out[8];
  const kvkeep::rows_view<const float> in(row, 1, 1, 8);
  auto step = cache.begin(1);
  step.attend(0, in, in, in, {out, 1, 1, 8}, evidence);
}
