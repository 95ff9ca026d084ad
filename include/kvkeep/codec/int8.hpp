// int8: rows stored as 8-bit integers with a scale a group of 32 components, the numbers of ggml's q8_0.
//
// 8.5 bits a component. Error of a component: up to 1/254 of the largest magnitude in its group; and for the scale, a half,
// 2^-11 of the component, or 127 * 2^-25 = 3.8e-6 where that is more: groups whose largest magnitude is below 0.0078 have
// scales that a half holds with fewer bits (see quants.hpp for scales that it does not hold at all). Stored are unsigned bytes, integer + 128.
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
  static constexpr std::int32_t bias = 128;
  static constexpr std::uint8_t flip = 0x80;

  static std::uint16_t encode(const float* in, std::byte* out) noexcept { return quantise_q8(in, out); }
  [[nodiscard]] static vec quants(const std::byte* bytes, std::size_t c) noexcept {
    return to_float(widen_i8(load<vec_byte>(bytes + c)));
  }
  [[nodiscard]] static constexpr std::size_t byte_of(std::size_t c) noexcept { return c; }
  [[nodiscard]] static vec_int bytes_of(vec_int words, std::size_t) noexcept { return words; }
};

}  // namespace detail

/// 8-bit integers: head_dim is a multiple of 32.
using int8 = basic_quantised<detail::int8_format>;

static_assert(codec<int8>);

KVKEEP_NAMESPACE_END

#endif
