// simd: vectors of floats as wide as the instruction set has them. The only header that knows instruction sets.
//
// Built on the vector types of gcc and clang: arithmetic, comparisons and conversions are the language's own, on every
// instruction set they know; only what has no operator, or a slow one, names instructions. Width and layout of what is
// stored do not depend on the instruction set. KVKEEP_SCALAR, defined before, makes vectors of one float and names none.
#ifndef KVKEEP_DETAIL_SIMD_HPP
#define KVKEEP_DETAIL_SIMD_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kvkeep/core/config.hpp"

// Exactly one of these is defined, and AVX-512 means its foundation: what goes beyond is asked for where it is used.
#if defined(KVKEEP_SCALAR)
#define KVKEEP_SIMD_NONE
#elif defined(__AVX512F__)
#define KVKEEP_SIMD_AVX512
#elif defined(__AVX2__)
#define KVKEEP_SIMD_AVX2
#elif defined(__AVX__)
#define KVKEEP_SIMD_AVX
#elif defined(__SSE2__)
#define KVKEEP_SIMD_SSE2
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define KVKEEP_SIMD_NEON
#else
#define KVKEEP_SIMD_NONE
#endif

#if defined(KVKEEP_SIMD_AVX512) || defined(KVKEEP_SIMD_AVX2) || defined(KVKEEP_SIMD_AVX) || defined(KVKEEP_SIMD_SSE2)
#include <immintrin.h>
#elif defined(KVKEEP_SIMD_NEON)
#include <arm_neon.h>
#endif

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Floats in a vector.
#if defined(KVKEEP_SIMD_AVX512)
inline constexpr std::size_t vec_width = 16;
#elif defined(KVKEEP_SIMD_AVX2) || defined(KVKEEP_SIMD_AVX)
inline constexpr std::size_t vec_width = 8;
#elif defined(KVKEEP_SCALAR)
inline constexpr std::size_t vec_width = 1;
#else
inline constexpr std::size_t vec_width = 4;
#endif
/// Vector registers there are: what bounds the accumulators of a kernel.
#if defined(KVKEEP_SIMD_AVX512) || defined(KVKEEP_SIMD_NEON)
inline constexpr std::size_t vec_registers = 32;
#else
inline constexpr std::size_t vec_registers = 16;
#endif

using vec = float __attribute__((vector_size(vec_width * sizeof(float))));
using vec_int = std::int32_t __attribute__((vector_size(vec_width * sizeof(float))));
using vec_bits = std::uint32_t __attribute__((vector_size(vec_width * sizeof(float))));
using vec_short = std::int16_t __attribute__((vector_size(vec_width * sizeof(float))));
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
template <class Vector>
[[nodiscard]] inline Vector larger(Vector a, Vector b) noexcept {
  return a > b ? a : b;
}
/// The bits of the magnitude of every element: their order is that of the magnitudes, with NaN above infinity_bits.
[[nodiscard]] inline vec_int magnitude_bits(vec x) noexcept { return std::bit_cast<vec_int>(x) & 0x7FFFFFFF; }
inline constexpr std::int32_t infinity_bits = 0x7F800000;
/// -1 in the elements that are NaN, 0 in the others, whatever the compiler is told about floats.
[[nodiscard]] inline vec_int are_nan(vec x) noexcept { return magnitude_bits(x) > infinity_bits; }
[[nodiscard]] inline bool is_nan(float x) noexcept {
  return (std::bit_cast<std::int32_t>(x) & 0x7FFFFFFF) > infinity_bits;
}
[[nodiscard]] inline vec to_float(vec_int x) noexcept { return __builtin_convertvector(x, vec); }
/// The nearest whole numbers, ties to even, of elements below 2^22 in magnitude.
[[nodiscard]] inline vec_int to_nearest(vec x) noexcept {
  constexpr float unit_steps = 0x1.8p23F;  // where floats are whole numbers
  return std::bit_cast<vec_int>(x + unit_steps) - std::bit_cast<std::int32_t>(unit_steps);
}

/// f over all elements of a vec or vec_int, two at a time; f takes two elements or two vectors of four.
template <class Vector, class F>
[[nodiscard]] inline auto fold(Vector x, const F& f) noexcept {
  using float_quad = float __attribute__((vector_size(16)));
  using int_quad = std::int32_t __attribute__((vector_size(16)));
  if constexpr (vec_width < 4) {
    return x[0];
  } else {
    std::conditional_t<std::is_same_v<Vector, vec>, float_quad, int_quad> quads[(vec_width + 3) / 4];
    std::memcpy(quads, &x, sizeof quads);
    for (std::size_t i = 1; i < vec_width / 4; ++i) quads[0] = f(quads[0], quads[i]);
    return f(f(quads[0][0], quads[0][2]), f(quads[0][1], quads[0][3]));
  }
}
/// The largest element. Where one is NaN, any of them or NaN.
template <class Vector>
[[nodiscard]] inline auto largest(Vector x) noexcept {
  return fold(x, [](auto a, auto b) { return b > a ? b : a; });
}
template <class Vector>
[[nodiscard]] inline auto sum_of(Vector x) noexcept {
  return fold(x, [](auto a, auto b) { return a + b; });
}

/// All bits set in the elements whose bit of `mask` is set.
[[nodiscard]] inline vec_int lanes_of(std::uint32_t mask) noexcept {
  vec_int bit{};
  for (std::size_t i = 0; i < vec_width; ++i) bit[i] = static_cast<std::int32_t>(1U << i);
  return (splat(static_cast<std::int32_t>(mask)) & bit) != 0;
}

/// Bit i set where element i of a is at least that of b.
[[nodiscard]] inline std::uint32_t at_least(vec_int a, vec_int b) noexcept {
#if defined(KVKEEP_SIMD_AVX512)
  return _mm512_cmpge_epi32_mask(std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(b));
#elif defined(KVKEEP_SIMD_AVX2) || defined(KVKEEP_SIMD_AVX)
  return static_cast<std::uint32_t>(_mm256_movemask_ps(std::bit_cast<__m256>(a >= b)));
#elif defined(KVKEEP_SIMD_SSE2)
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
#if defined(KVKEEP_SIMD_AVX512)
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

// Widening is named where there is an instruction for it: gcc makes __builtin_convertvector between elements of different
// sizes one element at a time. Masked forms, all elements set: gcc 12 warns of the plain ones' undefined operand.

/// 16-bit to 32-bit numbers.
[[nodiscard]] inline vec_bits widen_u16(vec_half x) noexcept {
#if defined(KVKEEP_SIMD_AVX512)
  return std::bit_cast<vec_bits>(_mm512_maskz_cvtepu16_epi32(0xFFFF, std::bit_cast<__m256i>(x)));
#elif defined(KVKEEP_SIMD_AVX2)
  return std::bit_cast<vec_bits>(_mm256_cvtepu16_epi32(std::bit_cast<__m128i>(x)));
#elif defined(KVKEEP_SIMD_SSE2)
  const __m128i low = _mm_cvtsi64_si128(std::bit_cast<std::int64_t>(x));
  return std::bit_cast<vec_bits>(_mm_unpacklo_epi16(low, _mm_setzero_si128()));
#else
  return __builtin_convertvector(x, vec_bits);
#endif
}

/// Signed bytes to 32-bit numbers.
[[nodiscard]] inline vec_int widen_i8(vec_byte x) noexcept {
#if defined(KVKEEP_SIMD_AVX512)
  return std::bit_cast<vec_int>(_mm512_maskz_cvtepi8_epi32(0xFFFF, std::bit_cast<__m128i>(x)));
#elif defined(KVKEEP_SIMD_AVX2)
  return std::bit_cast<vec_int>(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(std::bit_cast<std::int64_t>(x))));
#elif defined(KVKEEP_SIMD_SSE2)
  const __m128i bytes = _mm_cvtsi32_si128(std::bit_cast<std::int32_t>(x));
  const __m128i twice = _mm_unpacklo_epi8(bytes, bytes);  // each byte twice, then four times: the highest one counts
  return std::bit_cast<vec_int>(_mm_srai_epi32(_mm_unpacklo_epi16(twice, twice), 24));
#else
  return __builtin_convertvector(x, vec_int);
#endif
}

/// bf16 to float: the upper half of its bits.
[[nodiscard]] inline vec widen_bf16(vec_half x) noexcept { return std::bit_cast<vec>(widen_u16(x) << 16); }

/// f16 to float, exact, denormals, infinities and NaN included.
[[nodiscard]] inline vec widen_f16(vec_half x) noexcept {
#if defined(KVKEEP_SIMD_AVX512)
  return std::bit_cast<vec>(_mm512_maskz_cvtph_ps(0xFFFF, std::bit_cast<__m256i>(x)));
#elif defined(__F16C__) && (defined(KVKEEP_SIMD_AVX2) || defined(KVKEEP_SIMD_AVX))
  return std::bit_cast<vec>(_mm256_cvtph_ps(std::bit_cast<__m128i>(x)));
#elif defined(KVKEEP_SIMD_NEON)
  return std::bit_cast<vec>(vcvt_f32_f16(std::bit_cast<float16x4_t>(x)));
#else
  const vec_bits bits = widen_u16(x);
  const vec_bits sign = (bits & 0x8000U) << 16;
  const vec_bits magnitude = (bits & 0x7FFFU) << 13;
  // The exponent's bias is corrected by a multiplication, which makes denormals normal.
  const vec scaled = std::bit_cast<vec>(magnitude) * 0x1p112F;
  const vec_bits special = std::bit_cast<vec_bits>((bits & 0x7C00U) == 0x7C00U);  // infinite or NaN
  const vec_bits finite = std::bit_cast<vec_bits>(scaled);
  return std::bit_cast<vec>(sign | ((special & (magnitude | 0x7F800000U)) | (~special & finite)));
#endif
}

/// The products of the two signed 16-bit halves of each element, added.
[[nodiscard]] inline vec_int dot_shorts(vec_int a, vec_int b) noexcept {
#if defined(KVKEEP_SIMD_AVX512) && defined(__AVX512BW__)
  return std::bit_cast<vec_int>(_mm512_madd_epi16(std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(b)));
#elif defined(KVKEEP_SIMD_AVX2)
  return std::bit_cast<vec_int>(_mm256_madd_epi16(std::bit_cast<__m256i>(a), std::bit_cast<__m256i>(b)));
#elif defined(KVKEEP_SIMD_SSE2)
  return std::bit_cast<vec_int>(_mm_madd_epi16(std::bit_cast<__m128i>(a), std::bit_cast<__m128i>(b)));
#else
  return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

/// Stores the lowest byte of every element.
inline void store_bytes(void* to, vec_int x) noexcept {
#if defined(KVKEEP_SIMD_AVX512)
  const __m128i bytes = _mm512_maskz_cvtepi32_epi8(0xFFFF, std::bit_cast<__m512i>(x));
  std::memcpy(to, &bytes, sizeof bytes);
#else
  const vec_byte bytes = __builtin_convertvector(x, vec_byte);
  std::memcpy(to, &bytes, sizeof bytes);
#endif
}

/// Whether dot_bytes is one instruction.
#if (defined(KVKEEP_SIMD_AVX512) && defined(__AVX512VNNI__)) || (defined(KVKEEP_SIMD_AVX2) && defined(__AVXVNNI__))
inline constexpr bool multiplies_bytes = true;
#else
inline constexpr bool multiplies_bytes = false;
#endif

/// sum + the products of the four unsigned bytes of each element of `a` with the four signed bytes of `b`. Exact.
[[nodiscard]] inline vec_int dot_bytes(vec_int sum, vec_int a, vec_int b) noexcept {
#if defined(KVKEEP_SIMD_AVX512) && defined(__AVX512VNNI__)
  return std::bit_cast<vec_int>(
      _mm512_dpbusd_epi32(std::bit_cast<__m512i>(sum), std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(b)));
#elif defined(KVKEEP_SIMD_AVX2) && defined(__AVXVNNI__)
  return std::bit_cast<vec_int>(
      _mm256_dpbusd_avx_epi32(std::bit_cast<__m256i>(sum), std::bit_cast<__m256i>(a), std::bit_cast<__m256i>(b)));
#else
  // Bytes 0 and 2, then 1 and 3, as pairs of 16-bit numbers.
  const vec_int low = std::bit_cast<vec_int>(std::bit_cast<vec_bits>(a) & 0x00FF00FFU);
  const vec_int high = std::bit_cast<vec_int>(std::bit_cast<vec_bits>(a) >> 8 & 0x00FF00FFU);
  const vec_short signed_bytes = std::bit_cast<vec_short>(b);
  const vec_int signed_low = std::bit_cast<vec_int>((signed_bytes << 8) >> 8);
  const vec_int signed_high = std::bit_cast<vec_int>(signed_bytes >> 8);
  return sum + dot_shorts(low, signed_low) + dot_shorts(high, signed_high);
#endif
}

/// Asks for a cache line in the second level of cache; never faults. The first level is no larger than what is asked for ahead,
/// and its few buffers for misses are what loads wait for (bench/README.md has the figures).
inline void prefetch(const void* line) noexcept { __builtin_prefetch(line, 0, 2); }

}  // namespace detail
KVKEEP_NAMESPACE_END

#undef KVKEEP_SIMD_AVX512
#undef KVKEEP_SIMD_AVX2
#undef KVKEEP_SIMD_AVX
#undef KVKEEP_SIMD_SSE2
#undef KVKEEP_SIMD_NEON
#undef KVKEEP_SIMD_NONE

#endif
