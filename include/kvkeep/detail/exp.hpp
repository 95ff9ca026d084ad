// exp_below: e^x for x <= 0, of one number or of a vector.
//
// Relative error below 2e-7; 0 below -87 (where the result would be denormal), NaN for NaN, 1 for 0.
#ifndef KVKEEP_DETAIL_EXP_HPP
#define KVKEEP_DETAIL_EXP_HPP

#include <bit>
#include <cstdint>

#include "kvkeep/core/config.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// e^(x - n ln 2) for |x - n ln 2| <= ln 2: Cephes' polynomial; T is float or vec, and n a whole number.
template <class T>
[[nodiscard]] inline T exp_fraction(T x, T n) noexcept {
  const T r = (x - n * 0.693359375F) + n * 2.12194440e-4F;  // ln 2 in two parts
  T p = 1.9875691500e-4F * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  return p * r * r + r + 1.0F;
}

[[nodiscard]] inline float exp_below(float x) noexcept {
  const bool known = x >= -87.0F && x <= 0.0F;
  const float inside = known ? x : -87.0F;  // also for NaN and large x, whose conversion to an integer is undefined
  const auto n = static_cast<std::int32_t>(inside * 1.44269504F - 0.5F);
  const float scale = std::bit_cast<float>((n + 127) << 23);
  const float below = x < -87.0F ? 0.0F : x;
  return known ? exp_fraction(inside, static_cast<float>(n)) * scale : below;
}

[[nodiscard]] inline vec exp_below(vec x) noexcept {
  const vec_int known = x >= -87.0F;
  const vec inside = known ? x : splat(-87.0F);  // also for NaN, whose conversion to an integer is undefined
  const vec_int n = __builtin_convertvector(inside * 1.44269504F - 0.5F, vec_int);
  const vec scale = std::bit_cast<vec>((n + 127) << 23);
  const vec below = x < -87.0F ? vec{} : x;
  return known ? exp_fraction(inside, __builtin_convertvector(n, vec)) * scale : below;
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
