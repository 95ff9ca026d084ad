// The two products of attention for keys and values stored as integers: the other factor is rounded to integers too, and
// products are summed exactly.
//
// A group of 32 components of a query becomes integers of at most 127 in magnitude with a float scale, as ggml's q8_0 does
// (but for the scale, which stays a float). So a score's error has two parts: the codec's, and that of the query, whose
// component is off by at most 1/254 of the largest magnitude m in its group:
//   |error| <= sum over groups of m / 254 * the sum of |key component| in the group.
//
// Where an instruction multiplies bytes (multiplies_bytes), weights become 16-bit integers: e^(score - max) times the scale of
// the value's group, in steps of 1/32512 of the largest of a tile. With n keys in a tile (at most 256), w the largest such
// product and s the sum of all weights, a component of the output is off by at most n / 65024 * 127 w / s, a tile: 2e-3 of a
// value's range if all roundings went one way, about 1e-4 as they do. Elsewhere values are multiplied as floats.
#ifndef KVKEEP_ATTENTION_INTEGER_TILE_HPP
#define KVKEEP_ATTENTION_INTEGER_TILE_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "kvkeep/attention/tile.hpp"
#include "kvkeep/codec/quants.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::size_t quant_group = group_size;  // components that share a scale
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
    const std::int32_t size = largest_magnitude(in);
    const bool finite = size < infinity_bits;
    const float most = std::bit_cast<float>(size);
    const float inverse = finite && most >= 0x1p-120F ? 127.0F / most : 0.0F;  // smaller queries make no score
    vec_int sums{};
    std::int8_t bytes[quant_group];
    for (std::size_t c = 0; c < quant_group; c += vec_width) {
      const vec_int whole = finite ? to_nearest(load(in + c) * splat(inverse)) : vec_int{};
      sums += whole;
      store_bytes(bytes + c, whole);
    }
    std::memcpy(out.quads + g * group_quads, bytes, sizeof bytes);
    out.scales[g] = finite ? most / 127.0F : std::numeric_limits<float>::quiet_NaN();
    out.offsets[g] = -bias * sum_of(sums);
  }
}

/// score_blocks for keys of an integer codec.
template <class KeyCodec, std::size_t Rows, std::size_t Blocks>
KVKEEP_KERNEL void score_integer_blocks(const std::byte* const* blocks, std::size_t dim, const integer_query* queries,
                                        float* const* scores, prefetch_window& ahead) noexcept {
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
      ahead.ask();
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

/// The weights of Rows rows for the values of a tile in one group of components, as 16-bit integers in two signed bytes.
template <std::size_t Rows>
struct integer_weights {
  std::int8_t high[Rows][most_tile_tokens];
  std::int8_t low[Rows][most_tile_tokens];
  std::int32_t high_offset[Rows];  // what the values' bias adds to the sums, negated
  std::int32_t low_offset[Rows];
  float step[Rows];  // what an integer stands for

  /// Rounds weights[r][16 b + i] times the scale of value i of block b, for `count` blocks. Keys whose bit of masks[b] is not
  /// set weigh nothing.
  template <class ValueCodec>
  void round(const std::byte* const* blocks, const std::uint16_t* masks, std::size_t count, std::size_t dim,
             std::size_t group, const float* const* weights) noexcept {
    constexpr float largest_weight = 32512.0F;  // 127 * 256: its high byte stays in range when the low one is signed
    alignas(64) float products[Rows][most_tile_tokens];
    vec_int most[Rows] = {};
    for (std::size_t b = 0; b < count; ++b) {
      for (std::size_t part = 0; part < block_vectors; ++part) {
        const vec scales = ValueCodec::value_scales(blocks[b], dim, group, part);
        for (std::size_t r = 0; r < Rows; ++r) {
          const std::size_t at = b * block_tokens + part * vec_width;
          vec product = load(weights[r] + at) * scales;
          if (masks[b] != 0xFFFFU) product = lanes_of(std::uint32_t{masks[b]} >> (part * vec_width)) ? product : vec{};
          most[r] = larger(magnitude_bits(product), most[r]);
          store(&products[r][at], product);
        }
      }
    }
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::int32_t size = largest(most[r]);
      const bool finite = size < infinity_bits;
      const float top = std::bit_cast<float>(size);
      step[r] = finite ? top / largest_weight : std::numeric_limits<float>::quiet_NaN();
      const vec inverse =
          splat(finite && top >= 0x1p-100F ? largest_weight / top : 0.0F);  // what is smaller adds nothing
      vec_int sums{};
      vec_int high_sums{};
      for (std::size_t i = 0; i < count * block_tokens; i += vec_width) {
        const vec_int whole = finite ? to_nearest(load(&products[r][i]) * inverse) : vec_int{};
        const vec_int high_byte = (whole + 128) >> 8;
        sums += whole;
        high_sums += high_byte;
        store_bytes(&low[r][i], whole);
        store_bytes(&high[r][i], high_byte);
      }
      const std::int32_t high_sum = sum_of(high_sums);
      high_offset[r] = -ValueCodec::bias * high_sum;
      low_offset[r] = -ValueCodec::bias * (sum_of(sums) - high_sum * 256);
    }
  }
};

/// add_values for one group of components of an integer codec and a whole tile, with rounded weights.
template <class ValueCodec, std::size_t Rows>
KVKEEP_KERNEL void add_integer_values(const std::byte* const* blocks, const std::uint16_t* masks, std::size_t count,
                                      std::size_t dim, std::size_t group, const float* const* weights,
                                      float* const* accumulated, prefetch_window& ahead) noexcept {
  constexpr std::size_t vectors = quant_group / vec_width;
  integer_weights<Rows> rounded;
  rounded.template round<ValueCodec>(blocks, masks, count, dim, group, weights);
  vec_int high[Rows][vectors];
  vec_int low[Rows][vectors];
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < vectors; ++j) {
      high[r][j] = vec_int{};
      low[r][j] = vec_int{};
    }
  }
  for (std::size_t b = 0; b < count; ++b) {
    KVKEEP_UNROLL(4)
    for (std::size_t quad = 0; quad < block_tokens / 4; ++quad) {
      vec_int value[vectors];
      for (std::size_t j = 0; j < vectors; ++j) {
        value[j] = ValueCodec::value_quads(blocks[b], quad, dim, group * quant_group + j * vec_width);
      }
      const std::size_t at = b * block_tokens + quad * 4;
      for (std::size_t r = 0; r < Rows; ++r) {
        const vec_int high_weights = splat(load<std::int32_t>(&rounded.high[r][at]));
        const vec_int low_weights = splat(load<std::int32_t>(&rounded.low[r][at]));
        for (std::size_t j = 0; j < vectors; ++j) {
          high[r][j] = dot_bytes(high[r][j], value[j], high_weights);
          low[r][j] = dot_bytes(low[r][j], value[j], low_weights);
        }
      }
      ahead.ask();
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t j = 0; j < vectors; ++j) {
      float* const to = accumulated[r] + group * quant_group + j * vec_width;
      const vec sum =
          to_float(high[r][j] + rounded.high_offset[r]) * 256.0F + to_float(low[r][j] + rounded.low_offset[r]);
      store(to, load(to) + sum * splat(rounded.step[r]));
    }
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
