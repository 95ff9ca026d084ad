// Version, feature and namespace macros of kvkeep.
//
// All code of the library sits in an inline namespace named after its version and the instruction set it is compiled
// for, so that two translation units built with different -m flags never share one of our inline functions. Data
// layout depends on neither.
#ifndef KVKEEP_CORE_CONFIG_HPP
#define KVKEEP_CORE_CONFIG_HPP

#define KVKEEP_VERSION_MAJOR 0
#define KVKEEP_VERSION_MINOR 1
#define KVKEEP_VERSION_PATCH 0

// KVKEEP_EXCEPTIONS is 1 where the throwing forms (`f` beside `try_f`) exist.
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define KVKEEP_EXCEPTIONS 1
#else
#define KVKEEP_EXCEPTIONS 0
#endif

// The instruction set as one word: a base, then a letter or word for each extension that changes generated code.
#if defined(KVKEEP_SCALAR)
#define KVKEEP_ISA_BASE scalar
#elif defined(__AVX512F__)
#define KVKEEP_ISA_BASE avx512
#elif defined(__AVX2__)
#define KVKEEP_ISA_BASE avx2
#elif defined(__AVX__)
#define KVKEEP_ISA_BASE avx
#elif defined(__SSE4_2__)
#define KVKEEP_ISA_BASE sse42
#elif defined(__SSE4_1__)
#define KVKEEP_ISA_BASE sse41
#elif defined(__SSSE3__)
#define KVKEEP_ISA_BASE ssse3
#elif defined(__SSE3__)
#define KVKEEP_ISA_BASE sse3
#elif defined(__x86_64__) || defined(_M_X64)
#define KVKEEP_ISA_BASE x86_64
#elif defined(__ARM_FEATURE_SVE)
#define KVKEEP_ISA_BASE sve
#elif defined(__ARM_NEON)
#define KVKEEP_ISA_BASE neon
#else
#define KVKEEP_ISA_BASE generic
#endif
// General-purpose extensions: population count, bit manipulation.
#if defined(__BMI2__)
#define KVKEEP_ISA_BITS _bmi2
#elif defined(__BMI__)
#define KVKEEP_ISA_BITS _bmi
#elif defined(__POPCNT__)
#define KVKEEP_ISA_BITS _popcnt
#else
#define KVKEEP_ISA_BITS
#endif
#if defined(__FMA__)
#define KVKEEP_ISA_FMA _fma
#else
#define KVKEEP_ISA_FMA
#endif
#if defined(__F16C__)
#define KVKEEP_ISA_F16C _f16c
#else
#define KVKEEP_ISA_F16C
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define KVKEEP_ISA_SKX _bwdqvl
#elif defined(__AVX512BW__) || defined(__AVX512DQ__) || defined(__AVX512VL__)
#define KVKEEP_ISA_SKX _some
#else
#define KVKEEP_ISA_SKX
#endif
#if defined(__AVX512VNNI__)
#define KVKEEP_ISA_VNNI _vnni
#elif defined(__AVXVNNI__)
#define KVKEEP_ISA_VNNI _avxvnni
#else
#define KVKEEP_ISA_VNNI
#endif
#if defined(__AVX512FP16__)
#define KVKEEP_ISA_HALF _fp16
#elif defined(__AVX512BF16__)
#define KVKEEP_ISA_HALF _bf16
#else
#define KVKEEP_ISA_HALF
#endif
#if defined(__FAST_MATH__)
#define KVKEEP_ISA_MATH _fast
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#define KVKEEP_ISA_MATH _finite
#else
#define KVKEEP_ISA_MATH
#endif

#define KVKEEP_JOIN_(a, b, c, d, e, f, g, h, i) a##b##c##d##e##f##g##h##i
#define KVKEEP_JOIN(a, b, c, d, e, f, g, h, i) KVKEEP_JOIN_(a, b, c, d, e, f, g, h, i)
// KVKEEP_ABI_TAG names the inline namespace; define it yourself only if you know that all units are compiled alike.
#ifndef KVKEEP_ABI_TAG
#define KVKEEP_ABI_TAG                                                                                  \
  KVKEEP_JOIN(v0_1_, KVKEEP_ISA_BASE, KVKEEP_ISA_BITS, KVKEEP_ISA_FMA, KVKEEP_ISA_F16C, KVKEEP_ISA_SKX, \
              KVKEEP_ISA_VNNI, KVKEEP_ISA_HALF, KVKEEP_ISA_MATH)
#endif

#define KVKEEP_NAMESPACE_BEGIN \
  namespace kvkeep {           \
  inline namespace KVKEEP_ABI_TAG {
#define KVKEEP_NAMESPACE_END \
  }                          \
  }

// KVKEEP_COLD marks functions that only run on errors: never inlined, placed away from the hot code.
#if defined(__GNUC__) || defined(__clang__)
#define KVKEEP_COLD __attribute__((noinline, cold))
#else
#define KVKEEP_COLD
#endif

// KVKEEP_KERNEL marks inner loops: never inlined, so that they have all registers to themselves.
#if defined(__GNUC__) || defined(__clang__)
#define KVKEEP_KERNEL __attribute__((noinline))
#else
#define KVKEEP_KERNEL
#endif

// KVKEEP_UNROLL(n) before a loop: n turns of it are written out; 1: none.
#if defined(__clang__)
#define KVKEEP_PRAGMA_(text) _Pragma(#text)
#define KVKEEP_UNROLL(n) KVKEEP_PRAGMA_(clang loop unroll_count(n))
#elif defined(__GNUC__)
#define KVKEEP_PRAGMA_(text) _Pragma(#text)
#define KVKEEP_UNROLL(n) KVKEEP_PRAGMA_(GCC unroll n)
#else
#define KVKEEP_UNROLL(n)
#endif

#endif
