// dot_rows: the dot product of two rows of floats.
#ifndef KVKEEP_MEMORY_DOT_ROWS_HPP
#define KVKEEP_MEMORY_DOT_ROWS_HPP

#include <cstddef>

#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The dot product of two rows, fp32 accumulation. Asks for another row, which comes next.
[[nodiscard]] inline float dot_rows(const float* a, const float* b, std::size_t count, const float* next) noexcept {
  vec sums[4] = {};
  std::size_t i = 0;
  for (; i + 4 * vec_width <= count; i += 4 * vec_width) {
    for (std::size_t line = 0; line < 4 * vec_width; line += 16) prefetch(next + i + line);
    for (std::size_t j = 0; j < 4; ++j) sums[j] += load(a + i + j * vec_width) * load(b + i + j * vec_width);
  }
  for (; i + vec_width <= count; i += vec_width) sums[0] += load(a + i) * load(b + i);
  float rest = 0.0F;
  for (; i < count; ++i) rest += a[i] * b[i];
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest;
}

/// The same, and none comes next.
[[nodiscard]] inline float dot_rows(const float* a, const float* b, std::size_t count) noexcept {
  return dot_rows(a, b, count, b);
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
