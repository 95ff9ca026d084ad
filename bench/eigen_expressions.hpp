// Eigen's view of row-major floats, and the softmax of Eigen's array expressions.
#ifndef KVKEEP_BENCH_EIGEN_EXPRESSIONS_HPP
#define KVKEEP_BENCH_EIGEN_EXPRESSIONS_HPP

#include <cstddef>
#include <type_traits>

#include <Eigen/Core>

namespace kvkeep_bench {

using row_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class Float>
[[nodiscard]] auto as_matrix(Float* data, std::size_t rows, std::size_t columns) {
  using matrix = std::conditional_t<std::is_const_v<Float>, const row_matrix, row_matrix>;
  return Eigen::Map<matrix>(data, static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns));
}

/// Turns rows of scores, [rows][tokens], into weights.
inline void softmax_rows(float* scores, std::size_t rows, std::size_t tokens, float scale) {
  for (std::size_t r = 0; r < rows; ++r) {
    Eigen::Map<Eigen::ArrayXf> row(scores + r * tokens, static_cast<Eigen::Index>(tokens));
    row = ((row - row.maxCoeff()) * scale).exp();
    row /= row.sum();
  }
}

}  // namespace kvkeep_bench

#endif
