// int4: rows stored as 4-bit integers with a scale a group of 32 components, the numbers of ggml's q4_0.
//
// 4.5 bits a component. Error of a component, a being the largest magnitude in its group: up to a/16, but up to a/8 where it
// has the sign opposite to the first component of that magnitude and is larger than 7.5/8 a (integers end at 7 there and at
// -8 here); and for the scale, a half, 2^-11 of the component, or 8 * 2^-25 = 2.4e-7 where that is more: groups whose largest
// magnitude is below 0.00049 have scales that a half holds with fewer bits (see quants.hpp for scales that it does not hold).
#ifndef KVKEEP_CODEC_INT4_HPP
#define KVKEEP_CODEC_INT4_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kvkeep/codec/quantised.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

struct int4_format {
  static constexpr std::string_view name = "int4";
  static constexpr std::size_t group_bytes = 16;
  static constexpr std::int32_t bias = 8;
  static constexpr std::uint8_t flip = 0;

  static std::uint16_t encode(const float* in, std::byte* out) noexcept { return quantise_q4(in, out); }
  [[nodiscard]] static vec quants(const std::byte* bytes, std::size_t c) noexcept {
    const vec_int both = widen_i8(load<vec_byte>(bytes + c % group_bytes));
    return to_float((both >> (c < group_bytes ? 0 : 4) & 15) - 8);
  }
  [[nodiscard]] static constexpr std::size_t byte_of(std::size_t c) noexcept { return c % group_bytes; }
  [[nodiscard]] static vec_int bytes_of(vec_int words, std::size_t c) noexcept {
    return words >> (c < group_bytes ? 0 : 4) & 0x0F0F0F0F;
  }
};

}  // namespace detail

/// 4-bit integers: head_dim is a multiple of 32.
using int4 = basic_quantised<detail::int4_format>;

static_assert(codec<int4>);

KVKEEP_NAMESPACE_END

#endif
