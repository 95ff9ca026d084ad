// One of two units that include the umbrella twice: its definitions may appear in any number of units.
#include <kvkeep/kvkeep.hpp>

std::size_t held_after_ten_tokens();  // two_units_other.cpp

int main() {
  const kvkeep::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  const auto cache = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 2, .window = 6},
                                        {.positions = kvkeep::rope{.theta = 10000.0}, .max_step = 4});
  return cache.held().empty() && held_after_ten_tokens() == 8 ? 0 : 1;
}
