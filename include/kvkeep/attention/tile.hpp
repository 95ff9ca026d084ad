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
#include <type_traits>

#include "kvkeep/attention/prefetch.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Vectors that hold one component of the 16 keys of a block.
inline constexpr std::size_t block_vectors = block_tokens / vec_width;
/// Rows that work together.
inline constexpr std::size_t rows_at_once = vec_registers >= 32 || vec_width >= 8 ? 4 : 2;

/// How the rows of a call walk over a tile.
enum class walk {
  once,   ///< few rows: memory is what they wait for. Block after block, in the order of addresses
  again,  ///< many rows: arithmetic is what they wait for. Group of rows after group of rows over the whole tile
};
/// Blocks of keys that are scored side by side.
template <walk Walk>
inline constexpr std::size_t blocks_at_once = vec_width == 16 && (Walk == walk::again || !hardware_streams) ? 4 : 1;
/// Vectors of an output that are summed side by side.
inline constexpr std::size_t value_vectors = vec_width == 16 ? 4 : 2;
/// Whether floats are summed a whole row of 128 components at a time, for half as many query rows: reads in order of
/// addresses, which hardware prefetchers follow. Values that are widened gain more from being shared by more rows.
template <walk Walk, class ValueCodec>
inline constexpr bool whole_rows =
    Walk == walk::once&& hardware_streams&& vec_width == 16 && std::is_same_v<ValueCodec, f32>;

/// f(i) for i < count. Written out in part where arithmetic is waited for; where memory is, loads that come from one
/// instruction each are what hardware prefetchers follow.
template <walk Walk, class F>
inline void turn_by_turn(std::size_t count, const F& f) noexcept {
  if constexpr (Walk == walk::again) {
    KVKEEP_UNROLL(4)
    for (std::size_t i = 0; i < count; ++i) f(i);
  } else {
    KVKEEP_UNROLL(1)
    for (std::size_t i = 0; i < count; ++i) f(i);
  }
}

/// scores[r][16 b + i] = query r . key i of block b, for Rows queries [dim] and Blocks blocks [dim][16] of floats.
template <walk Walk, class KeyCodec, std::size_t Rows, std::size_t Blocks>
KVKEEP_KERNEL void score_blocks(const std::byte* const* blocks, std::size_t dim, const float* const* queries,
                                float* const* scores, read_ahead& ahead) noexcept {
  constexpr std::size_t columns = Blocks * block_vectors;
  // One sum a score, in the order of the components: how many rows and blocks work together does not change a bit of it.
  vec sum[Rows][columns] = {};
  turn_by_turn<Walk>(dim, [&](std::size_t c) {
    vec key[columns];
    for (std::size_t j = 0; j < columns; ++j) {
      key[j] = KeyCodec::key_vector(blocks[j / block_vectors], c, j % block_vectors);
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      const vec query = splat(queries[r][c]);
      for (std::size_t j = 0; j < columns; ++j) sum[r][j] += query * key[j];
    }
    ahead.ask(c);
  });
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < columns; ++j) store(scores[r] + j * vec_width, sum[r][j]);
  }
}

/// f(row) for the rows of a block whose bit of mask is set.
template <walk Walk, class F>
inline void each_row(std::uint32_t mask, const F& f) noexcept {
  if (mask == 0xFFFFU) {
    turn_by_turn<Walk>(block_tokens, f);
  } else {
    for (std::uint32_t left = mask; left != 0; left &= left - 1) f(static_cast<std::size_t>(std::countr_zero(left)));
  }
}

/// accumulated[r] += the sum over the keys of some blocks of weights[r][16 b + i] * value i of block b, for components
/// first .. first + Vectors * vec_width - 1. Only the keys whose bit of masks[b] is set are read.
template <walk Walk, class ValueCodec, std::size_t Rows, std::size_t Vectors>
KVKEEP_KERNEL void add_values(const std::byte* const* blocks, const std::uint16_t* masks, std::size_t count,
                              std::size_t dim, std::size_t first, const float* const* weights,
                              float* const* accumulated, read_ahead& ahead) noexcept {
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
    each_row<Walk>(masks[b], [&](std::size_t row) {
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
      ahead.ask(row);
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
      each_row<walk::once>(masks[b], [&](std::size_t row) {
        sum += weights[b * block_tokens + row] * ValueCodec::value_at(blocks[b], row, dim, c);
      });
    }
    accumulated[c] = sum;
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
