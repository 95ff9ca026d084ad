// Compiled twice: UNIT=baseline with default flags, UNIT=avx2 with -mavx2 -mfma.
#include "unit.hpp"

#include <kvkeep/kvkeep.hpp>

#define KVKEEP_TEST_JOIN_(a, b) a##b
#define KVKEEP_TEST_JOIN(a, b) KVKEEP_TEST_JOIN_(a, b)

namespace {

template <class... T>
std::vector<std::size_t> layouts_of() {
  return {sizeof(T)..., alignof(T)...};
}

}  // namespace

unit_report KVKEEP_TEST_JOIN(report_, UNIT)() {
  const kvkeep::model_shape shape{.layers = 1, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
  auto cache = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 2, .window = 6},
                                  {.positions = kvkeep::rope{.theta = 10000.0}, .max_step = 4});
  Eigen::Tensor<float, 3, Eigen::RowMajor> q(1, 4, 8), k(1, 2, 8), v(1, 2, 8), out(1, 4, 8);
  unit_report report{};
  for (int token = 0; token < 10; ++token) {
    q.setConstant(0.5F);
    k.setConstant(0.125F * static_cast<float>(token));
    v.setConstant(static_cast<float>(token));
    auto step = cache.begin(1);
    step.attend(0, q, k, v, out);
    step.commit();
    report.outputs.insert(report.outputs.end(), out.data(), out.data() + out.size());
  }
  report.held = cache.held().size();
  report.layouts = layouts_of<kvkeep::model_shape, kvkeep::position, kvkeep::streaming_llm, kvkeep::rope, kvkeep::error,
                              decltype(cache), decltype(cache.begin(1))>();
  return report;
}
