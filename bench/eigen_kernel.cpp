#include "eigen_expressions.hpp"
#include "rival_kernels.hpp"

namespace kvkeep_bench {

void attend_eigen(const rival_call& c) {
  const std::size_t dim = c.head_dim;
  for (std::size_t h = 0; h < c.heads; ++h) {
    const auto keys = as_matrix(c.keys + h * c.tokens * dim, c.tokens, dim);
    const auto values = as_matrix(c.values + h * c.tokens * dim, c.tokens, dim);
    for (std::size_t g = 0; g < c.group; ++g) {
      const std::size_t at = (h * c.group + g) * c.queries * dim;
      if (c.queries == 1) {
        const Eigen::Map<const Eigen::VectorXf> q(c.q + at, static_cast<Eigen::Index>(dim));
        Eigen::Map<Eigen::VectorXf> scores(c.scores, static_cast<Eigen::Index>(c.tokens));
        Eigen::Map<Eigen::VectorXf> out(c.out + at, static_cast<Eigen::Index>(dim));
        scores.noalias() = keys * q;
        softmax_rows(c.scores, 1, c.tokens, c.scale);
        out.noalias() = values.transpose() * scores;
      } else {
        const auto q = as_matrix(c.q + at, c.queries, dim);
        auto scores = as_matrix(c.scores, c.queries, c.tokens);
        auto out = as_matrix(c.out + at, c.queries, dim);
        scores.noalias() = q * keys.transpose();
        softmax_rows(c.scores, c.queries, c.tokens, c.scale);
        out.noalias() = scores * values;
      }
    }
  }
}

}  // namespace kvkeep_bench
