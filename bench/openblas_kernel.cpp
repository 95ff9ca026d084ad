#include <cblas.h>

#include "eigen_expressions.hpp"
#include "rival_kernels.hpp"

namespace kvkeep_bench {

void attend_openblas(const rival_call& c) {
  openblas_set_num_threads(1);
  const auto rows = static_cast<blasint>(c.group * c.queries);
  const auto tokens = static_cast<blasint>(c.tokens);
  const auto dim = static_cast<blasint>(c.head_dim);
  for (std::size_t h = 0; h < c.heads; ++h) {
    const float* const keys = c.keys + h * c.tokens * c.head_dim;
    const float* const values = c.values + h * c.tokens * c.head_dim;
    const std::size_t at = h * c.group * c.queries * c.head_dim;
    if (rows == 1) {
      cblas_sgemv(CblasRowMajor, CblasNoTrans, tokens, dim, 1.0F, keys, dim, c.q + at, 1, 0.0F, c.scores, 1);
      softmax_rows(c.scores, 1, c.tokens, c.scale);
      cblas_sgemv(CblasRowMajor, CblasTrans, tokens, dim, 1.0F, values, dim, c.scores, 1, 0.0F, c.out + at, 1);
    } else {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, tokens, dim, 1.0F, c.q + at, dim, keys, dim, 0.0F,
                  c.scores, tokens);
      softmax_rows(c.scores, c.group * c.queries, c.tokens, c.scale);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, dim, tokens, 1.0F, c.scores, tokens, values, dim,
                  0.0F, c.out + at, dim);
    }
  }
}

}  // namespace kvkeep_bench
