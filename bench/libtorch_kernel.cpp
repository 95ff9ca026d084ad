#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "rival_kernels.hpp"

namespace kvkeep_bench {

void attend_libtorch(const rival_call& c) {
  static const bool one_thread = [] {
    at::set_num_threads(1);
    return true;
  }();
  (void)one_thread;
  const c10::InferenceMode inference;
  const auto heads = static_cast<std::int64_t>(c.heads);
  const auto rows = static_cast<std::int64_t>(c.group * c.queries);
  const auto tokens = static_cast<std::int64_t>(c.tokens);
  const auto dim = static_cast<std::int64_t>(c.head_dim);
  const auto tensor = [&](const float* from, std::int64_t count) {
    return at::from_blob(const_cast<float*>(from), {heads, count, dim});
  };
  const at::Tensor scores = at::matmul(tensor(c.q, rows), tensor(c.keys, tokens).transpose(1, 2)).mul_(c.scale);
  at::Tensor out = tensor(c.out, rows);
  at::matmul_out(out, at::softmax(scores, -1), tensor(c.values, tokens));
}

}  // namespace kvkeep_bench
