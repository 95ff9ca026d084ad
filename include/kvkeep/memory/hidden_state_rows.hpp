// hidden_state_rows: the inner loops of hidden_state_store: many scores in one pass over rows, and sums of rows.
#ifndef KVKEEP_MEMORY_HIDDEN_STATE_ROWS_HPP
#define KVKEEP_MEMORY_HIDDEN_STATE_ROWS_HPP

#include <algorithm>
#include <cstddef>

#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Floats that a row of a store is padded to a multiple of, with zeros: whole vectors on every instruction set, so that the
/// same row gets the same score bit for bit, wherever it stands.
inline constexpr std::size_t padded_floats = 16;
/// Search vectors that are scored together; there is room for a multiple of so many.
inline constexpr std::size_t searched_together = 4;
/// Rows that are read together: as many as registers leave room for.
inline constexpr std::size_t scanned_together = vec_registers > 16 ? 4 : 2;
/// Rows that stay in the second level of cache while all search vectors come by.
inline constexpr std::size_t scanned_tile = 16;

[[nodiscard]] constexpr std::size_t round_up(std::size_t n, std::size_t to) noexcept { return (n + to - 1) / to * to; }

/// out[v][r]: the dot product of search vector v with row r; vectors and rows have `stride` floats, fp32 accumulation.
KVKEEP_KERNEL inline void score_together(const float* const (&rows)[scanned_together], const float* vectors,
                                         std::size_t stride,
                                         float (&out)[searched_together][scanned_together]) noexcept {
  vec sums[searched_together][scanned_together] = {};
  for (std::size_t c = 0; c < stride; c += vec_width) {
    vec row[scanned_together];
    KVKEEP_UNROLL(4) for (std::size_t r = 0; r < scanned_together; ++r) row[r] = load(rows[r] + c);
    KVKEEP_UNROLL(4) for (std::size_t v = 0; v < searched_together; ++v) {
      const vec mine = load(vectors + v * stride + c);
      KVKEEP_UNROLL(4) for (std::size_t r = 0; r < scanned_together; ++r) sums[v][r] += mine * row[r];
    }
  }
  for (std::size_t v = 0; v < searched_together; ++v) {
    for (std::size_t r = 0; r < scanned_together; ++r) out[v][r] = sum_of(sums[v][r]);
  }
}

/// The scores of rows first .. last - 1 for `count` search vectors: scores[v * score_stride + row]. Rows are [...][stride], vectors [round_up(count, searched_together)][stride].
inline void score_rows(const float* rows, std::size_t stride, std::size_t first, std::size_t last, const float* vectors,
                       std::size_t count, float* scores, std::size_t score_stride) noexcept {
  for (std::size_t tile = first; tile < last; tile += scanned_tile) {
    const std::size_t end = (std::min)(tile + scanned_tile, last);
    for (std::size_t v = 0; v < count; v += searched_together) {
      for (std::size_t r = tile; r < end; r += scanned_together) {
        const float* some[scanned_together];
        for (std::size_t i = 0; i < scanned_together; ++i) some[i] = rows + (std::min)(r + i, end - 1) * stride;
        float out[searched_together][scanned_together];
        score_together(some, vectors + v * stride, stride, out);
        for (std::size_t j = 0; j < (std::min)(searched_together, count - v); ++j) {
          for (std::size_t i = 0; i < (std::min)(scanned_together, end - r); ++i) {
            scores[(v + j) * score_stride + r + i] = out[j][i];
          }
        }
      }
    }
  }
}

/// out += the sum of weight_of(i) * row_of(i), i < count; rows of `length` floats.
template <class WeightOf, class RowOf>
inline void add_rows(float* out, std::size_t length, std::size_t count, const WeightOf& weight_of,
                     const RowOf& row_of) noexcept {
  const std::size_t whole = length / vec_width * vec_width;
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const float* const a = row_of(i);
    const float* const b = row_of(i + 1);
    const float* const c = row_of(i + 2);
    const float* const d = row_of(i + 3);
    const float wa = weight_of(i);
    const float wb = weight_of(i + 1);
    const float wc = weight_of(i + 2);
    const float wd = weight_of(i + 3);
    for (std::size_t j = 0; j < whole; j += vec_width) {
      store(out + j, load(out + j) + ((wa * load(a + j) + wb * load(b + j)) + (wc * load(c + j) + wd * load(d + j))));
    }
    for (std::size_t j = whole; j < length; ++j) out[j] += (wa * a[j] + wb * b[j]) + (wc * c[j] + wd * d[j]);
  }
  for (; i < count; ++i) {
    const float* const a = row_of(i);
    const float wa = weight_of(i);
    for (std::size_t j = 0; j < whole; j += vec_width) store(out + j, load(out + j) + wa * load(a + j));
    for (std::size_t j = whole; j < length; ++j) out[j] += wa * a[j];
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
