// A user's first program: StreamingLLM over a one-layer model, twelve tokens, one key-value cache of two sinks and a
// window of six.
#include <kvkeep/kvkeep.hpp>

#include <vector>

int main() {
  const kvkeep::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  auto cache = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 2, .window = 6},
                                  {.positions = kvkeep::rope{.theta = 10000.0}, .max_step = 4});

  Eigen::Tensor<float, 3, Eigen::RowMajor> q(1, 4, 8), k(1, 2, 8), v(1, 2, 8), out(1, 4, 8);
  q.setConstant(0.5F);
  k.setConstant(0.25F);
  v.setConstant(1.0F);

  for (int token = 0; token < 12; ++token) {
    auto step = cache.begin(1);
    step.attend(0, q, k, v, out);
    step.commit();
  }

  const std::vector<kvkeep::position> held = cache.held();
  if (held.size() != 8) return 1;                                 // 2 sinks + 6 of the window
  return out(0, 0, 0) > 0.999F && out(0, 0, 0) < 1.001F ? 0 : 2;  // the mean of equal values
}
