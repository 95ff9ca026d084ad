// dot_rows: the dot products of rows of floats.
#ifndef KVKEEP_MEMORY_DOT_ROWS_HPP
#define KVKEEP_MEMORY_DOT_ROWS_HPP

#include <array>
#include <cstddef>

#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The dot products of a row with some others, fp32 accumulation, bit for bit the same for every place among them; for another
/// number of rows the compiler may round otherwise. Rows in pages of their own are read side by side.
template <std::size_t Rows>
[[nodiscard]] inline std::array<float, Rows> dot_rows(const float* a, const std::array<const float*, Rows>& rows,
                                                      std::size_t count) noexcept {
  vec sums[Rows][4] = {};
  const std::size_t whole = count / vec_width * vec_width;
  const std::size_t fours = count / (4 * vec_width) * (4 * vec_width);
  for (std::size_t i = 0; i < fours; i += 4 * vec_width) {
    for (std::size_t j = 0; j < 4; ++j) {
      const vec x = load(a + i + j * vec_width);
      for (std::size_t r = 0; r < Rows; ++r) sums[r][j] += x * load(rows[r] + i + j * vec_width);
    }
  }
  for (std::size_t i = fours; i < whole; i += vec_width) {
    for (std::size_t r = 0; r < Rows; ++r) sums[r][0] += load(a + i) * load(rows[r] + i);
  }
  std::array<float, Rows> out;
  for (std::size_t r = 0; r < Rows; ++r) {
    float rest = 0.0F;
    for (std::size_t c = 0; c < count % vec_width; ++c) rest += a[whole + c] * rows[r][whole + c];
    out[r] = sum_of((sums[r][0] + sums[r][1]) + (sums[r][2] + sums[r][3])) + rest;
  }
  return out;
}

/// The dot product of two rows.
[[nodiscard]] inline float dot_rows(const float* a, const float* b, std::size_t count) noexcept {
  return dot_rows(a, std::array{b}, count)[0];
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
