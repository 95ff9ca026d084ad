// Built with -fno-exceptions -fno-rtti: the non-throwing forms alone carry a whole step, and an error is a value.
#include <kvkeep/kvkeep.hpp>

int main() {
  const kvkeep::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  auto cache = kvkeep::try_make_cache(shape, kvkeep::streaming_llm{.sinks = 2, .window = 6},
                                      {.positions = kvkeep::rope{.theta = 10000.0}, .max_step = 4});
  if (!cache) return 1;

  Eigen::Tensor<float, 3, Eigen::RowMajor> q(1, 4, 8), k(1, 2, 8), v(1, 2, 8), out(1, 4, 8);
  q.setConstant(0.5F);
  k.setConstant(0.25F);
  v.setConstant(1.0F);
  {
    auto step = cache->try_begin(1);
    if (!step) return 2;
    if (!step->try_attend(0, q, k, v, out)) return 3;
    if (!step->try_commit()) return 4;
  }
  if (cache->try_begin(5)) return 5;  // longer than max_step
  return cache->held().size() == 1 ? 0 : 6;
}
