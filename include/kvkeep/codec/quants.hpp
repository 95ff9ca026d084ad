// quants: 32 floats as small integers and one scale, the numbers of ggml's q8_0 and q4_0.
//
// The integers are computed with the scale as a float, the scale is stored as an IEEE half. As ggml's reference routines, to
// the bit, on every instruction set; besides, what is undefined there:
// * a group with a NaN or an infinity decodes to NaN throughout;
// * a scale too large for a half becomes 65504, and integers beyond their range the ends of it;
// * where 1 / scale is no float the integers are those of zeros (the scale is stored as zero there anyway).
#ifndef KVKEEP_CODEC_QUANTS_HPP
#define KVKEEP_CODEC_QUANTS_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kvkeep/codec/half.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Components that share a scale.
inline constexpr std::size_t group_size = 32;

/// The bits of the largest magnitude of a group: an infinity's or more where a component is not finite.
[[nodiscard]] inline std::int32_t largest_magnitude(const float* in) noexcept {
  vec_int top{};
  for (std::size_t c = 0; c < group_size; c += vec_width) top = larger(magnitude_bits(load(in + c)), top);
  return largest(top);
}

/// A scale as it is used and as it is stored.
struct group_scale {
  float inverse;
  std::uint16_t bits;
};

[[nodiscard]] inline group_scale scale_of(float d) noexcept {
  constexpr float largest_half = 65504.0F;
  std::uint16_t bits = to_f16_bits(d);
  if ((bits & 0x7FFFU) == 0x7C00U) {
    d = d < 0.0F ? -largest_half : largest_half;
    bits = to_f16_bits(d);
  }
  const float inverse = d == 0.0F ? 0.0F : 1.0F / d;
  const bool finite = (std::bit_cast<std::uint32_t>(inverse) & 0x7F800000U) != 0x7F800000U;
  return {finite ? inverse : 0.0F, bits};
}

inline constexpr std::uint16_t nan_scale = 0x7E00;

/// The elements brought into -most .. most. It also keeps the compiler from fusing the product that x is with a sum that
/// follows, which would round differently.
[[nodiscard]] inline vec clamped(vec x, float most) noexcept {
  x = x > most ? splat(most) : x;
  return x < -most ? splat(-most) : x;
}

/// q8_0: 32 integers -127 .. 127, round(x / scale), halves away from zero. Returns the bits of the scale.
inline std::uint16_t quantise_q8(const float* in, std::byte* out) noexcept {
  const std::int32_t top = largest_magnitude(in);
  if (top >= infinity_bits) {
    std::memset(out, 127, group_size);
    return nan_scale;
  }
  const group_scale scale = scale_of(std::bit_cast<float>(top) / 127.0F);
  for (std::size_t c = 0; c < group_size; c += vec_width) {
    const vec x = clamped(load(in + c) * splat(scale.inverse), 127.0F);
    const vec_int whole = __builtin_convertvector(x, vec_int);
    const vec rest = x - __builtin_convertvector(whole, vec);  // exact, of the sign of x
    const vec_int up = rest >= 0.5F;                           // -1 where it holds
    const vec_int down = rest <= -0.5F;
    const vec_byte quants = __builtin_convertvector(whole - up + down, vec_byte);
    std::memcpy(out + c, &quants, sizeof quants);
  }
  return scale.bits;
}

/// q4_0: 32 integers 0 .. 15 that stand for -8 .. 7, the first component of the largest magnitude being 0; byte j of the 16
/// has component j in its low and component 16 + j in its high half. Returns the bits of the scale, whose sign is that
/// component's, turned.
inline std::uint16_t quantise_q4(const float* in, std::byte* out) noexcept {
  const std::int32_t top = largest_magnitude(in);
  if (top >= infinity_bits) {
    std::memset(out, 0xFF, group_size / 2);
    return nan_scale;
  }
  float largest = 0.0F;
  for (std::size_t c = 0; top != 0 && c < group_size; ++c) {
    if ((std::bit_cast<std::int32_t>(in[c]) & 0x7FFFFFFF) != top) continue;
    largest = in[c];
    break;
  }
  const group_scale scale = scale_of(largest / -8.0F);
  const auto quants = [&](const float* from) {
    const vec x = clamped(load(from) * splat(scale.inverse), 8.0F) + splat(8.5F);
    const vec_int whole = __builtin_convertvector(x, vec_int);
    return whole > 15 ? splat(std::int32_t{15}) : whole;
  };
  for (std::size_t j = 0; j < group_size / 2; j += vec_width) {
    const vec_byte both = __builtin_convertvector(quants(in + j) | quants(in + group_size / 2 + j) << 4, vec_byte);
    std::memcpy(out + j, &both, sizeof both);
  }
  return scale.bits;
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
