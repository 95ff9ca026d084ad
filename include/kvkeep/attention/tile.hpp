// The two products of attention over a tile of blocks, for a few query rows at once, all accumulators in registers.
//
// A row is one query head of one query. Rows that work together share every key and value that is loaded and widened.
#ifndef KVKEEP_ATTENTION_TILE_HPP
#define KVKEEP_ATTENTION_TILE_HPP

#include <array>
#include <cstddef>

#include "kvkeep/attention/prefetch.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Vectors that hold one component of the 16 keys of a block.
inline constexpr std::size_t block_vectors = block_tokens / vec_width;
/// Rows that work together.
inline constexpr std::size_t rows_at_once = vec_registers >= 32 || vec_width >= 8 ? 4 : 2;
/// Blocks of keys that are scored side by side.
inline constexpr std::size_t blocks_at_once = vec_width == 16 ? 4 : 1;
/// Vectors of an output that are summed side by side.
inline constexpr std::size_t value_vectors = vec_width == 16 ? 4 : 2;

/// scores[r][16 b + i] = query r . key i of block b, for Rows queries [dim] and Blocks blocks [dim][16].
template <class KeyCodec, std::size_t Rows, std::size_t Blocks>
inline void score_blocks(const std::byte* const* blocks, std::size_t dim, const float* const* queries,
                         float* const* scores, prefetch_window& ahead, std::size_t lines) noexcept {
  constexpr std::size_t columns = Blocks * block_vectors;
  // One sum a score, in the order of the components: how many rows and blocks work together does not change a bit of it.
  vec sum[Rows][columns] = {};
  for (std::size_t c = 0; c < dim; ++c) {
    vec key[columns];
    for (std::size_t j = 0; j < columns; ++j) {
      key[j] = KeyCodec::key_vector(blocks[j / block_vectors], c, j % block_vectors);
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      const vec query = splat(queries[r][c]);
      for (std::size_t j = 0; j < columns; ++j) sum[r][j] += query * key[j];
    }
    ahead.ask(lines);
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < columns; ++j) store(scores[r] + j * vec_width, sum[r][j]);
  }
}

/// A key of a tile that is read: where its value is, and its place among the tile's scores.
struct tile_key {
  const std::byte* block;  // [16][dim] of values
  std::uint32_t row;
  std::uint32_t place;
};

/// accumulated[r] = shrink[r] * accumulated[r] + the sum over keys of weights[r][place] * value, for components first ..
/// first + Vectors * vec_width - 1.
template <class ValueCodec, std::size_t Rows, std::size_t Vectors>
inline void add_values(const tile_key* keys, std::size_t count, std::size_t dim, std::size_t first,
                       const float* const* weights, const float* shrink, float* const* accumulated,
                       prefetch_window& ahead, std::size_t lines) noexcept {
  vec sum[Rows][Vectors];
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < Vectors; ++j) {
      sum[r][j] = load(accumulated[r] + first + j * vec_width) * splat(shrink[r]);
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    const tile_key& key = keys[i];
    vec value[Vectors];
    for (std::size_t j = 0; j < Vectors; ++j) {
      value[j] = ValueCodec::value_vector(key.block, key.row, dim, first + j * vec_width);
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      const vec weight = splat(weights[r][key.place]);
      for (std::size_t j = 0; j < Vectors; ++j) sum[r][j] += weight * value[j];
    }
    ahead.ask(lines);
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < Vectors; ++j) store(accumulated[r] + first + j * vec_width, sum[r][j]);
  }
}

/// The same for the components that are left when the vectors are through, one at a time.
template <class ValueCodec>
inline void add_values_rest(const tile_key* keys, std::size_t count, std::size_t dim, std::size_t first,
                            const float* weights, float shrink, float* accumulated) noexcept {
  for (std::size_t c = first; c < dim; ++c) {
    float sum = accumulated[c] * shrink;
    for (std::size_t i = 0; i < count; ++i) {
      sum += weights[keys[i].place] * ValueCodec::value_at(keys[i].block, keys[i].row, dim, c);
    }
    accumulated[c] = sum;
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
