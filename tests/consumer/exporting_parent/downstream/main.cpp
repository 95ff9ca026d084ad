#include <parent.hpp>

int main() {
  const kvkeep::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  const auto cache = kvkeep::make_cache(shape, parent::default_policy(), {.max_step = 4});
  return cache.held().empty() ? 0 : 1;
}
