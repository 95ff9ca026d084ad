// simd: vectors of floats as wide as the instruction set has them. The only header that knows instruction sets.
//
// Built on the vector types of gcc and clang: arithmetic, comparisons and conversions are the language's own, on every
// instruction set they know; only what has no operator (half-precision loads) names instructions. Width and layout of what is
// stored do not depend on the instruction set.
#ifndef KVKEEP_DETAIL_SIMD_HPP
#define KVKEEP_DETAIL_SIMD_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kvkeep/core/config.hpp"

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Floats in a vector.
#if defined(__AVX512F__)
inline constexpr std::size_t vec_width = 16;
#elif defined(__AVX__)
inline constexpr std::size_t vec_width = 8;
#else
inline constexpr std::size_t vec_width = 4;
#endif
/// Vector registers there are: what bounds the accumulators of a kernel.
#if defined(__AVX512F__) || defined(__ARM_NEON)
inline constexpr std::size_t vec_registers = 32;
#else
inline constexpr std::size_t vec_registers = 16;
#endif

using vec = float __attribute__((vector_size(vec_width * sizeof(float))));
using vec_int = std::int32_t __attribute__((vector_size(vec_width * sizeof(float))));
using vec_bits = std::uint32_t __attribute__((vector_size(vec_width * sizeof(float))));
using vec_half = std::uint16_t __attribute__((vector_size(vec_width * sizeof(std::uint16_t))));
using vec_byte = std::int8_t __attribute__((vector_size(vec_width)));

/// vec_width elements from memory of any alignment.
template <class Vector = vec>
[[nodiscard]] inline Vector load(const void* from) noexcept {
  Vector out;
  std::memcpy(&out, from, sizeof out);
  return out;
}
inline void store(float* to, vec x) noexcept { std::memcpy(to, &x, sizeof x); }
[[nodiscard]] inline vec splat(float x) noexcept { return x - vec{}; }
[[nodiscard]] inline vec_int splat(std::int32_t x) noexcept { return x - vec_int{}; }
[[nodiscard]] inline vec larger(vec a, vec b) noexcept { return a > b ? a : b; }

/// The largest element. Where one is NaN, any of them or NaN.
[[nodiscard]] inline float largest(vec x) noexcept {
  float out = x[0];
  for (std::size_t i = 1; i < vec_width; ++i) out = x[i] > out ? x[i] : out;
  return out;
}
[[nodiscard]] inline float sum_of(vec x) noexcept {
  float lanes[vec_width];
  store(lanes, x);
  for (std::size_t half = vec_width / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

/// All bits set in the elements whose bit of `mask` is set.
[[nodiscard]] inline vec_int lanes_of(std::uint32_t mask) noexcept {
  vec_int bit;
  for (std::size_t i = 0; i < vec_width; ++i) bit[i] = static_cast<std::int32_t>(1U << i);
  return (splat(static_cast<std::int32_t>(mask)) & bit) != 0;
}

/// Bit i set where element i of a is at least that of b.
[[nodiscard]] inline std::uint32_t at_least(vec_int a, vec_int b) noexcept {
#if defined(__AVX512F__)
  return _mm512_cmpge_epi32_mask(std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(b));
#elif defined(__AVX__)
  return static_cast<std::uint32_t>(_mm256_movemask_ps(std::bit_cast<__m256>(a >= b)));
#elif defined(__SSE2__)
  return static_cast<std::uint32_t>(_mm_movemask_ps(std::bit_cast<__m128>(a >= b)));
#else
  const vec_int yes = a >= b;
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < vec_width; ++i) out |= static_cast<std::uint32_t>(yes[i] & 1) << i;
  return out;
#endif
}

/// Stores the elements whose bit of `mask` is set one after the other and returns how many; what stands behind them, up to
/// vec_width elements from `to` on, is overwritten.
inline std::size_t store_chosen(std::uint32_t* to, vec_int x, std::uint32_t mask) noexcept {
#if defined(__AVX512F__)
  // To a register first: some processors are slow to compress into memory.
  const __m512i chosen = _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), std::bit_cast<__m512i>(x));
  std::memcpy(to, &chosen, sizeof chosen);
  return static_cast<std::size_t>(std::popcount(mask));
#else
  std::uint32_t lanes[vec_width];
  std::memcpy(lanes, &x, sizeof lanes);
  std::size_t count = 0;
  for (std::size_t i = 0; i < vec_width; ++i) {
    to[count] = lanes[i];
    count += (mask >> i) & 1U;
  }
  return count;
#endif
}

/// bf16 to float: the upper half of its bits.
[[nodiscard]] inline vec widen_bf16(vec_half x) noexcept {
  return std::bit_cast<vec>(__builtin_convertvector(x, vec_bits) << 16);
}

/// f16 to float, exact, denormals, infinities and NaN included.
[[nodiscard]] inline vec widen_f16(vec_half x) noexcept {
#if defined(__AVX512F__)
  return std::bit_cast<vec>(_mm512_cvtph_ps(std::bit_cast<__m256i>(x)));
#elif defined(__F16C__) && defined(__AVX__)
  return std::bit_cast<vec>(_mm256_cvtph_ps(std::bit_cast<__m128i>(x)));
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return std::bit_cast<vec>(vcvt_f32_f16(std::bit_cast<float16x4_t>(x)));
#else
  const vec_bits bits = __builtin_convertvector(x, vec_bits);
  const vec_bits sign = (bits & 0x8000U) << 16;
  const vec_bits magnitude = (bits & 0x7FFFU) << 13;
  // The exponent's bias is corrected by a multiplication, which makes denormals normal.
  const vec scaled = std::bit_cast<vec>(magnitude) * 0x1p112F;
  const vec_bits special = std::bit_cast<vec_bits>((bits & 0x7C00U) == 0x7C00U);  // infinite or NaN
  const vec_bits finite = std::bit_cast<vec_bits>(scaled);
  return std::bit_cast<vec>(sign | ((special & (magnitude | 0x7F800000U)) | (~special & finite)));
#endif
}

[[nodiscard]] inline vec widen_i8(vec_byte x) noexcept { return __builtin_convertvector(x, vec); }

/// Asks for a cache line; never faults.
inline void prefetch(const void* line) noexcept { __builtin_prefetch(line, 0, 3); }

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
