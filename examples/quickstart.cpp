// quickstart: a model's stream through attention sinks and a sliding window.
#include <fmt/core.h>

#include "kvkeep/kvkeep.hpp"

int main() {
  const kvkeep::model_shape shape{.layers = 2, .query_heads = 8, .kv_heads = 2, .head_dim = 64};
  auto cache = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 4, .window = 252},
                                  {.positions = kvkeep::rope{.theta = 10000.0}});
  Eigen::Tensor<float, 3, Eigen::RowMajor> q(1, 8, 64), k(1, 2, 64), v(1, 2, 64),
      out(1, 8, 64);  // [tokens, heads, head_dim]
  for (int token = 0; token < 1000; ++token) {
    auto step = cache.begin(1);  // nothing is lost yet
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      q.setRandom(), k.setRandom(), v.setRandom();  // a model computes these from the layer's input
      step.attend(layer, q, k, v, out);             // keys and queries before RoPE
    }
    step.commit();  // without it, nothing happened
  }
  fmt::print("{} of {} tokens held in {} bytes\n", cache.held_count(), cache.next_position(), cache.bytes().total);
  return cache.held().front() == 0 && cache.held_count() == 256 ? 0 : 1;
}
