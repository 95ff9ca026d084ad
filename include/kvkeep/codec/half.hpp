// half: conversions between float and the two 16-bit floats, of one number and of a vector.
//
// Nearest, ties to even; denormals are kept; overflow becomes infinity; NaN stays a quiet NaN of the same sign. The bits are
// the same on every instruction set.
#ifndef KVKEEP_CODEC_HALF_HPP
#define KVKEEP_CODEC_HALF_HPP

#include <bit>
#include <cstdint>

#include "kvkeep/core/config.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN

/// IEEE binary16: 1 sign, 5 exponent, 10 mantissa bits; largest 65504.
[[nodiscard]] constexpr std::uint16_t to_f16_bits(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = bits >> 16U & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t out = 0;
  if (magnitude > 0x7F800000U) {
    out = 0x7E00U;  // NaN
  } else if (magnitude >= 0x477FF000U) {
    out = 0x7C00U;  // from 65520 on, which is as near to 65536 as to 65504
  } else if (magnitude >= 0x38800000U) {
    out = (magnitude - 0x38000000U + 0xFFFU + (magnitude >> 13U & 1U)) >> 13U;
  } else {  // denormal: the sum with 0.5 has the right bits at its end, rounded
    out = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000U;
  }
  return static_cast<std::uint16_t>(sign | out);
}

[[nodiscard]] constexpr float from_f16_bits(std::uint16_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000U) << 16U;
  const std::uint32_t magnitude = (half & 0x7FFFU) << 13U;
  // The exponent's bias is corrected by a multiplication, which makes denormals normal.
  const bool finite = (half & 0x7C00U) != 0x7C00U;
  const std::uint32_t out =
      finite ? std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112F) : magnitude | 0x7F800000U;
  return std::bit_cast<float>(sign | out);
}

/// bfloat16: the upper half of a float.
[[nodiscard]] constexpr std::uint16_t to_bf16_bits(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(bits >> 16U | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16U & 1U)) >> 16U);
}

[[nodiscard]] constexpr float from_bf16_bits(std::uint16_t half) noexcept {
  return std::bit_cast<float>(std::uint32_t{half} << 16U);
}

namespace detail {

[[nodiscard]] inline vec_bits choose(vec_int where, vec_bits yes, vec_bits no) noexcept {
  const vec_bits mask = std::bit_cast<vec_bits>(where);
  return (mask & yes) | (~mask & no);
}

/// to_f16_bits of every element.
[[nodiscard]] inline vec_half narrow_f16(vec x) noexcept {
  const vec_bits bits = std::bit_cast<vec_bits>(x);
  const vec_bits magnitude = bits & 0x7FFFFFFFU;
  const vec_int order = std::bit_cast<vec_int>(magnitude);
  const vec_bits normal = (magnitude - 0x38000000U + 0xFFFU + (magnitude >> 13 & 1U)) >> 13;
  const vec_bits denormal = std::bit_cast<vec_bits>(std::bit_cast<vec>(magnitude) + splat(0.5F)) - 0x3F000000U;
  vec_bits out = choose(order >= 0x38800000, normal, denormal);
  out = choose(order >= 0x477FF000, vec_bits{} + 0x7C00U, out);
  out = choose(order > 0x7F800000, vec_bits{} + 0x7E00U, out);
  return __builtin_convertvector((bits >> 16 & 0x8000U) | out, vec_half);
}

/// to_bf16_bits of every element.
[[nodiscard]] inline vec_half narrow_bf16(vec x) noexcept {
  const vec_bits bits = std::bit_cast<vec_bits>(x);
  const vec_int order = std::bit_cast<vec_int>(bits & 0x7FFFFFFFU);
  const vec_bits rounded = (bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16;
  return __builtin_convertvector(choose(order > 0x7F800000, bits >> 16 | 0x40U, rounded), vec_half);
}

}  // namespace detail

KVKEEP_NAMESPACE_END

#endif
