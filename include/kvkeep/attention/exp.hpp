// exp_below: e^x for x <= 0 in float, in a form that compilers vectorise.
#ifndef KVKEEP_ATTENTION_EXP_HPP
#define KVKEEP_ATTENTION_EXP_HPP

#include <bit>
#include <cstdint>

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// e^x for x <= 0, relative error below 2e-7; 0 below -87 (where the result would be denormal), NaN for NaN, 1 for 0. Any
/// value for x > 0, which only rows that are not read may have.
[[nodiscard]] inline float exp_below(float x) noexcept {
  // Also for NaN and large x, whose conversion to an integer is undefined.
  const float inside = x >= -87.0F && x <= 0.0F ? x : -87.0F;
  const auto n = static_cast<std::int32_t>(inside * 1.44269504F - 0.5F);
  const auto whole = static_cast<float>(n);
  const float r = (inside - whole * 0.693359375F) + whole * 2.12194440e-4F;  // ln 2 in two parts
  float p = 1.9875691500e-4F;                                                // the Cephes polynomial for e^r
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const float scale = std::bit_cast<float>((n + 127) << 23);
  const float below = x < -87.0F ? 0.0F : x;
  return x >= -87.0F && x <= 0.0F ? p * scale : below;
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
