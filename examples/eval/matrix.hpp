#ifndef KVKEEP_EVAL_MATRIX_HPP
#define KVKEEP_EVAL_MATRIX_HPP

#include <Eigen/Core>

#include <cstddef>

namespace kvkeep_eval {

// A row-major matrix of floats; a linear layer's weights are [outputs, inputs], as in the file, and activations
// [tokens, width].
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Eigen's signed index for one of our unsigned counts; the config bounds them all far below its limit.
[[nodiscard]] constexpr Eigen::Index index(std::size_t count) noexcept { return static_cast<Eigen::Index>(count); }

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_MATRIX_HPP
