// Scores of keys stored as integers: the query is rounded to integers too, and products are summed exactly.
//
// A group of 32 components of a query becomes integers of at most 127 in magnitude with a float scale, as ggml's q8_0 does
// (but for the scale, which stays a float). So a score's error has two parts: the codec's, and that of the query, whose
// component is off by at most 1/254 of the largest magnitude m in its group:
//   |error| <= sum over groups of m / 254 * the sum of |key component| in the group.
#ifndef KVKEEP_ATTENTION_INTEGER_TILE_HPP
#define KVKEEP_ATTENTION_INTEGER_TILE_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kvkeep/attention/tile.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::size_t quant_group = 32;  // components that share a scale
inline constexpr std::size_t group_quads = quant_group / 4;

/// A query as integers. It does not own them.
struct integer_query {
  std::int32_t* quads = nullptr;    // [dim / 4]: four signed bytes each, the first component lowest
  float* scales = nullptr;          // [dim / 32]
  std::int32_t* offsets = nullptr;  // [dim / 32]: what the keys' bias adds to a group's sum, negated
};

/// Rounds a query [dim], dim a multiple of 32, for keys with a bias. A group with a component that is not finite gets the
/// scale NaN.
inline void round_query(const float* query, std::size_t dim, std::int32_t bias, const integer_query& out) noexcept {
  for (std::size_t g = 0; g < dim / quant_group; ++g) {
    const float* const in = query + g * quant_group;
    float most = 0.0F;
    bool finite = true;
    for (std::size_t c = 0; c < quant_group; ++c) {
      const float size = std::fabs(in[c]);
      finite = finite && size <= std::numeric_limits<float>::max();
      most = size > most ? size : most;
    }
    const float inverse = finite && most >= 0x1p-120F ? 127.0F / most : 0.0F;  // smaller queries make no score
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < group_quads; ++k) {
      std::uint32_t quad = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        const float scaled = finite ? in[k * 4 + i] * inverse : 0.0F;
        const auto whole = static_cast<std::int32_t>(scaled + (scaled < 0.0F ? -0.5F : 0.5F));
        sum += whole;
        quad |= (static_cast<std::uint32_t>(whole) & 0xFFU) << (8 * i);
      }
      out.quads[g * group_quads + k] = static_cast<std::int32_t>(quad);
    }
    out.scales[g] = finite ? most / 127.0F : std::numeric_limits<float>::quiet_NaN();
    out.offsets[g] = -bias * sum;
  }
}

/// score_blocks for keys of an integer codec.
template <walk Walk, class KeyCodec, std::size_t Rows, std::size_t Blocks>
KVKEEP_KERNEL void score_integer_blocks(const std::byte* const* blocks, std::size_t dim, const integer_query* queries,
                                        float* const* scores, read_ahead& ahead) noexcept {
  constexpr std::size_t columns = Blocks * block_vectors;
  vec total[Rows][columns] = {};
  for (std::size_t g = 0; g < dim / quant_group; ++g) {
    vec_int sum[Rows][columns];
    for (std::size_t r = 0; r < Rows; ++r) {
      for (std::size_t j = 0; j < columns; ++j) sum[r][j] = splat(queries[r].offsets[g]);
    }
    KVKEEP_UNROLL(8)
    for (std::size_t k = g * group_quads; k < (g + 1) * group_quads; ++k) {
      vec_int key[columns];
      for (std::size_t j = 0; j < columns; ++j) {
        key[j] = KeyCodec::key_quads(blocks[j / block_vectors], k, j % block_vectors);
      }
      for (std::size_t r = 0; r < Rows; ++r) {
        const vec_int query = splat(queries[r].quads[k]);
        for (std::size_t j = 0; j < columns; ++j) sum[r][j] = dot_bytes(sum[r][j], key[j], query);
      }
      ahead.ask(k);
    }
    for (std::size_t j = 0; j < columns; ++j) {
      const vec scales = KeyCodec::key_scales(blocks[j / block_vectors], dim, g, j % block_vectors);
      for (std::size_t r = 0; r < Rows; ++r) {
        total[r][j] += to_float(sum[r][j]) * (splat(queries[r].scales[g]) * scales);
      }
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < columns; ++j) store(scores[r] + j * vec_width, total[r][j]);
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
