// int8: rows stored as 8-bit integers with a scale a group of 32 components, the numbers of ggml's q8_0.
//
// 8.5 bits a component. Error of a component: up to 1/254 of the largest magnitude in its group, and 2^-11 of the component
// for the scale, a half (see quants.hpp for scales that a half does not hold). Keys are stored as unsigned bytes, integer +
// 128.
#ifndef KVKEEP_CODEC_INT8_HPP
#define KVKEEP_CODEC_INT8_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kvkeep/codec/quantised.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

struct int8_format {
  static constexpr std::string_view name = "int8";
  static constexpr std::size_t group_bytes = 32;
  static constexpr std::int32_t key_bias = 128;
  static constexpr std::uint32_t key_flip = 0x80808080U;

  static std::uint16_t encode(const float* in, std::byte* out) noexcept { return quantise_q8(in, out); }
  [[nodiscard]] static std::int32_t quant(const std::byte* bytes, std::size_t c) noexcept {
    return static_cast<std::int8_t>(bytes[c]);
  }
  [[nodiscard]] static vec quants(const std::byte* bytes, std::size_t c) noexcept {
    return to_float(widen_i8(load<vec_byte>(bytes + c)));
  }
  [[nodiscard]] static constexpr std::size_t key_word(std::size_t quad) noexcept { return quad; }
  [[nodiscard]] static vec_int key_quads(vec_int word, std::size_t) noexcept { return word; }
};

}  // namespace detail

/// 8-bit integers: head_dim is a multiple of 32.
using int8 = basic_quantised<detail::int8_format>;

static_assert(codec<int8>);

KVKEEP_NAMESPACE_END

#endif
