// What clang-tidy looks at: every header, and a cache of every preset.
#include <kvkeep/kvkeep.hpp>

int main() {
  const kvkeep::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  const auto policy = kvkeep::try_parse_policy("streaming_llm:sinks=4,window=252");
  if (!policy) return 1;
  auto cache = kvkeep::try_make_cache(shape, *policy, {});
  if (!cache) return 1;
  const auto step = cache->try_begin(1);
  return step ? 0 : 1;
}
