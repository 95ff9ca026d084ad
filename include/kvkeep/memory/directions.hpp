// directions: the few directions in which vectors differ most, found without a library of linear algebra.
//
// Orthogonal iteration: some directions are multiplied by the symmetric matrix of the vectors' moments and made orthogonal again,
// a few times. What comes out is good for telling vectors apart by few numbers; eigenvectors to the last digit would be of no use.
#ifndef KVKEEP_MEMORY_DIRECTIONS_HPP
#define KVKEEP_MEMORY_DIRECTIONS_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/detail/simd.hpp"
#include "kvkeep/memory/dot_rows.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// to += factor * from, [count].
inline void add_scaled(float* to, float factor, const float* from, std::size_t count) noexcept {
  const std::size_t whole = count / vec_width * vec_width;
  for (std::size_t i = 0; i < whole; i += vec_width) store(to + i, load(to + i) + factor * load(from + i));
  for (std::size_t i = 0; i < count % vec_width; ++i) to[whole + i] += factor * from[whole + i];
}

/// Makes row p of `rows`, [p + 1 or more][length], of length 1 and at right angles to those before it; 0 where nothing is left.
inline void straighten(float* rows, std::size_t p, std::size_t length) noexcept {
  float* const mine = rows + p * length;
  const float before = dot_rows(mine, mine, length);
  for (int twice = 0; twice < 2; ++twice) {
    for (std::size_t i = 0; i < p; ++i)
      add_scaled(mine, -dot_rows(mine, rows + i * length, length), rows + i * length, length);
  }
  const float left = dot_rows(mine, mine, length);
  const float factor = left > 1e-10F * before && left > 1e-30F ? 1.0F / std::sqrt(left) : 0.0F;
  for (std::size_t c = 0; c < length; ++c) mine[c] *= factor;
}

/// Fills `found`, [count][length], with directions along which the symmetric matrix `moments`, [length][length], is about largest,
/// the largest first, each of length 1 and at right angles to the others, or 0. Scales `moments`; `work` is [count][length].
/// Finite moments only. Cost: 6 * count * length * (length + count) multiplications.
inline void main_directions(std::span<float> moments, std::size_t length, std::size_t count, std::span<float> found,
                            std::span<float> work) noexcept {
  float most = 1e-30F;
  for (const float x : moments) most = (std::max)(most, std::abs(x));
  for (float& x : moments) x /= most;
  std::uint32_t random = 1;
  for (float& x : found) {
    random = random * 1664525U + 1013904223U;
    x = static_cast<float>(random >> 8) * 0x1p-24F - 0.5F;
  }
  for (std::size_t round = 0; round < 6; ++round) {
    std::fill(work.begin(), work.end(), 0.0F);
    for (std::size_t p = 0; p < count; ++p) {
      for (std::size_t c = 0; c < length; ++c) {
        add_scaled(&work[p * length], found[p * length + c], &moments[c * length], length);
      }
    }
    for (std::size_t p = 0; p < count; ++p) straighten(work.data(), p, length);
    std::copy(work.begin(), work.end(), found.begin());
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
