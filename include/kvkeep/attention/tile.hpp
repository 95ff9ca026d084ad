// The two products of attention over blocks of keys and values, for a few query rows at once, all sums in registers.
//
// A row is one query head of one query. Rows that work together share every key and value that is loaded and widened.
#ifndef KVKEEP_ATTENTION_TILE_HPP
#define KVKEEP_ATTENTION_TILE_HPP

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "kvkeep/attention/prefetch.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::size_t most_tile_blocks = 16;
inline constexpr std::size_t most_tile_tokens = most_tile_blocks * block_tokens;
/// Vectors that hold one component of the 16 keys of a block.
inline constexpr std::size_t block_vectors = block_tokens / vec_width;
/// Rows that work together, at most: with the blocks and vectors below, what the registers hold.
inline constexpr std::size_t rows_at_once = vec_registers >= 32 || vec_width >= 8 ? 6 : 2;

/// Blocks of keys that are scored side by side.
inline constexpr std::size_t blocks_at_once = vec_width == 16 ? 4 : 1;
/// Vectors of an output that are summed side by side.
inline constexpr std::size_t value_vectors = vec_width == 16 ? 4 : 2;

/// scores[r][16 b + i] = query r . key i of block b, for Rows queries [dim] and Blocks blocks [dim][16] of floats.
template <class KeyCodec, std::size_t Rows, std::size_t Blocks>
KVKEEP_KERNEL void score_blocks(const std::byte* const* blocks, std::size_t dim, const float* const* queries,
                                float* const* scores, prefetch_window& ahead) noexcept {
  constexpr std::size_t columns = Blocks * block_vectors;
  // One sum a score, in the order of the components: how many rows and blocks work together does not change a bit of it.
  vec sum[Rows][columns] = {};
  KVKEEP_UNROLL(4)
  for (std::size_t c = 0; c < dim; ++c) {
    vec key[columns];
    for (std::size_t j = 0; j < columns; ++j) {
      key[j] = KeyCodec::key_vector(blocks[j / block_vectors], c, j % block_vectors);
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      const vec query = splat(queries[r][c]);
      for (std::size_t j = 0; j < columns; ++j) sum[r][j] += query * key[j];
    }
    ahead.ask();
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < columns; ++j) store(scores[r] + j * vec_width, sum[r][j]);
  }
}

/// f(row) for the rows of a block whose bit of mask is set.
template <class F>
inline void each_row(std::uint32_t mask, const F& f) noexcept {
  if (mask == 0xFFFFU) {
    KVKEEP_UNROLL(4)
    for (std::size_t row = 0; row < block_tokens; ++row) f(row);
  } else {
    for (std::uint32_t left = mask; left != 0; left &= left - 1) f(static_cast<std::size_t>(std::countr_zero(left)));
  }
}

/// accumulated[r] += the sum over the keys of some blocks of weights[r][16 b + i] * value i of block b, for components
/// first .. first + Vectors * vec_width - 1. Only the keys whose bit of masks[b] is set are read.
template <class ValueCodec, std::size_t Rows, std::size_t Vectors>
KVKEEP_KERNEL void add_values(const std::byte* const* blocks, const std::uint16_t* masks, std::size_t count,
                              std::size_t dim, std::size_t first, const float* const* weights,
                              float* const* accumulated, prefetch_window& ahead) noexcept {
  constexpr std::size_t group = 32;  // components that share a scale
  constexpr std::size_t groups = ValueCodec::integer ? std::max<std::size_t>(Vectors * vec_width / group, 1) : 1;
  vec sum[Rows][Vectors];
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < Vectors; ++j) sum[r][j] = load(accumulated[r] + first + j * vec_width);
  }
  for (std::size_t b = 0; b < count; ++b) {
    float scaled[Rows][groups][block_tokens];  // of an integer codec: weights times the values' scales
    if constexpr (ValueCodec::integer) {
      for (std::size_t g = 0; g < groups; ++g) {
        for (std::size_t part = 0; part < block_vectors; ++part) {
          const vec scales = ValueCodec::value_scales(blocks[b], dim, first / group + g, part);
          for (std::size_t r = 0; r < Rows; ++r) {
            store(&scaled[r][g][part * vec_width], load(weights[r] + b * block_tokens + part * vec_width) * scales);
          }
        }
      }
    }
    each_row(masks[b], [&](std::size_t row) {
      vec value[Vectors];
      for (std::size_t j = 0; j < Vectors; ++j) {
        value[j] = ValueCodec::value_vector(blocks[b], row, dim, first + j * vec_width);
      }
      for (std::size_t r = 0; r < Rows; ++r) {
        if constexpr (ValueCodec::integer) {
          for (std::size_t j = 0; j < Vectors; ++j) {
            sum[r][j] += splat(scaled[r][j * groups / Vectors][row]) * value[j];
          }
        } else {
          const vec weight = splat(weights[r][b * block_tokens + row]);
          for (std::size_t j = 0; j < Vectors; ++j) sum[r][j] += weight * value[j];
        }
      }
      ahead.ask();
    });
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < Vectors; ++j) store(accumulated[r] + first + j * vec_width, sum[r][j]);
  }
}

/// The same for components that fill no vector, one at a time. Not for integer codecs, whose head_dim is a multiple of 32.
template <class ValueCodec>
inline void add_values_rest(const std::byte* const* blocks, const std::uint16_t* masks, std::size_t count,
                            std::size_t dim, std::size_t first, const float* weights, float* accumulated) noexcept {
  for (std::size_t c = first; c < dim; ++c) {
    float sum = accumulated[c];
    for (std::size_t b = 0; b < count; ++b) {
      each_row(masks[b], [&](std::size_t row) {
        sum += weights[b * block_tokens + row] * ValueCodec::value_at(blocks[b], row, dim, c);
      });
    }
    accumulated[c] = sum;
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
