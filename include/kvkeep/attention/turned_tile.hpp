// Scores of raw keys that stand at distances of their own: every key is turned as it is read, in registers.
#ifndef KVKEEP_ATTENTION_TURNED_TILE_HPP
#define KVKEEP_ATTENTION_TURNED_TILE_HPP

#include <cstddef>

#include "kvkeep/attention/integer_tile.hpp"
#include "kvkeep/position/key_turning.hpp"

KVKEEP_NAMESPACE_BEGIN

namespace detail {

/// score_blocks for keys that are turned backwards by the angles of their blocks, [pairs][2][16].
template <class KeyCodec, std::size_t Rows, std::size_t Blocks>
KVKEEP_KERNEL void score_turned_blocks(const std::byte* const* blocks, const float* const* angles,
                                       const key_turning& turning, std::size_t dim, const float* const* queries,
                                       float* const* scores, prefetch_window& ahead) noexcept {
  constexpr std::size_t columns = Blocks * block_vectors;
  vec sum[Rows][columns] = {};
  vec scale_x[columns];  // of an integer codec, for the groups that a pair's components are in
  vec scale_y[columns];
  KVKEEP_UNROLL(2)
  for (std::size_t pair = 0; pair < turning.pairs; ++pair) {
    const std::size_t a = pair * turning.step;
    const std::size_t b = a + turning.apart;
    if constexpr (KeyCodec::integer) {
      if (pair == 0 || a % quant_group < turning.step || b % quant_group < turning.step) {
        for (std::size_t j = 0; j < columns; ++j) {
          const std::byte* const block = blocks[j / block_vectors];
          scale_x[j] = KeyCodec::key_scales(block, dim, a / quant_group, j % block_vectors);
          scale_y[j] = KeyCodec::key_scales(block, dim, b / quant_group, j % block_vectors);
        }
      }
    }
    vec x[columns];
    vec y[columns];
    for (std::size_t j = 0; j < columns; ++j) {
      const float* const at = angles[j / block_vectors] + pair * 2 * block_tokens + j % block_vectors * vec_width;
      const vec cosine = load(at);
      const vec sine = load(at + block_tokens);
      vec raw_x = KeyCodec::key_vector(blocks[j / block_vectors], a, j % block_vectors);
      vec raw_y = KeyCodec::key_vector(blocks[j / block_vectors], b, j % block_vectors);
      if constexpr (KeyCodec::integer) {
        raw_x *= scale_x[j];
        raw_y *= scale_y[j];
      }
      x[j] = raw_x * cosine + raw_y * sine;
      y[j] = raw_y * cosine - raw_x * sine;
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      const vec query_x = splat(queries[r][a]);
      const vec query_y = splat(queries[r][b]);
      for (std::size_t j = 0; j < columns; ++j) {
        sum[r][j] += query_x * x[j];
        sum[r][j] += query_y * y[j];
      }
    }
    ahead.ask();
  }
  for (std::size_t c = 2 * turning.pairs; c < dim; ++c) {
    for (std::size_t r = 0; r < Rows; ++r) {
      const vec query = splat(queries[r][c]);
      for (std::size_t j = 0; j < columns; ++j) {
        vec key = KeyCodec::key_vector(blocks[j / block_vectors], c, j % block_vectors);
        if constexpr (KeyCodec::integer) {
          key *= KeyCodec::key_scales(blocks[j / block_vectors], dim, c / quant_group, j % block_vectors);
        }
        sum[r][j] += query * key;
      }
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < columns; ++j) store(scores[r] + j * vec_width, sum[r][j]);
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
