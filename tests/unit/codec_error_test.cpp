// How far codecs are from what they were given: maximum and mean errors on three kinds of data, and the bounds that follow
// from the formats.
#include <gtest/gtest.h>

#include <array>

#include "../support/rows.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/codec/float16.hpp"
#include "kvkeep/codec/int4.hpp"
#include "kvkeep/codec/int8.hpp"

namespace kvkeep_test {
namespace {

constexpr std::size_t dim = 128;
constexpr std::size_t group = 32;
constexpr std::size_t rows = 4000;

enum class data { normal, student_t, outliers, small };

/// Student's t with 3 degrees of freedom: heavy tails.
float student_t(dice& random) {
  double squares = 0;
  for (int i = 0; i < 3; ++i) {
    const double x = static_cast<double>(random.normal());
    squares += x * x;
  }
  return static_cast<float>(static_cast<double>(random.normal()) / std::sqrt(squares / 3));
}

std::vector<float> row_of(data kind, dice& random) {
  std::vector<float> row(dim);
  for (float& x : row) x = kind == data::student_t ? student_t(random) : random.normal();
  if (kind == data::small) {
    for (std::size_t c = 0; c < dim; ++c) row[c] *= std::pow(10.0F, -2.0F - static_cast<float>(c / group));  // to 1e-5
  }
  if (kind == data::outliers) {
    for (std::size_t g = 0; g < dim; g += group) row[g + random.between(0, group - 1)] *= 50.0F;
  }
  return row;
}

/// The error that a component may have, in a group whose first component of the largest magnitude is `top`.
///
/// A half has 11 significant bits, a bfloat16 has 8: half of the last one. int8 rounds to multiples of top / 127, int4 to
/// multiples of top / 8 between -top and 7/8 top, so that what lies beyond 7.5/8 top on the other side of zero is clipped and
/// up to a whole step away. Their scale is a half: what is decoded is off by another 2^-11 of itself, or by 2^-25 a step where
/// that half is denormal. 1e-6 is room for the rounding of the product with 1 / scale, a float.
template <class Codec>
double bound(double x, double top) {
  const double a = std::abs(top);
  if (Codec::name == "f16") return std::max(std::abs(x) * 0x1p-11, 0x1p-25);
  if (Codec::name == "bf16") return std::abs(x) * 0x1p-8;
  if (Codec::name == "int8") return a / 254 + std::max((std::abs(x) + a / 254) * 0x1p-11, 127 * 0x1p-25) + a * 1e-6;
  if (Codec::name == "int4") {
    const double steps = -x / top * 8;  // 8: the clipped extreme
    return (steps > 7.5 ? (steps - 7) * a / 8 : a / 16) + std::max((std::abs(x) + a / 16) * 0x1p-11, 8 * 0x1p-25) +
           a * 1e-6;
  }
  return 0.0;
}

/// A unit in the last place of what a component is stored as: of a float of the format near it; of integers, the step
/// between two of the group.
template <class Codec>
double ulp(double x, double top) {
  if (Codec::name == "int8") return std::abs(top) / 127;
  if (Codec::name == "int4") return std::abs(top) / 8;
  const int exponent = std::ilogb(x);
  if (Codec::name == "f16") return std::ldexp(1.0, std::max(exponent, -14) - 10);
  if (Codec::name == "bf16") return std::ldexp(1.0, std::max(exponent, -126) - 7);
  return std::ldexp(1.0, std::max(exponent, -126) - 23);
}

/// Errors relative to the largest magnitude of the group of 32, and in units in the last place.
struct statistics {
  double max = 0;
  double mean = 0;
  double max_ulp = 0;
  double mean_ulp = 0;
  double mean_signed = 0;
  double rms = 0;       // of the error, as a share of that of the data
  double of_bound = 0;  // the largest error as a share of its bound
};

template <class Codec>
statistics errors_of(data kind) {
  statistics s;
  dice random(static_cast<std::uint64_t>(kind) + 7);
  alignas(64) std::array<std::byte, dim * 16 * 4> keys{};
  alignas(64) std::array<std::byte, dim * 16 * 4> values{};
  double squares = 0;
  double error_squares = 0;
  std::vector<float> back(dim);
  std::vector<float> value(dim);
  for (std::size_t i = 0; i < rows; ++i) {
    const std::vector<float> row = row_of(kind, random);
    Codec::write_key(keys.data(), i % 16, row);
    Codec::read_key(keys.data(), i % 16, back);
    Codec::write_value(values.data(), i % 16, row);
    Codec::read_value(values.data(), i % 16, value);
    EXPECT_EQ(back, value);
    for (std::size_t c = 0; c < dim; ++c) {
      double top = 0;
      for (std::size_t j = c / group * group; j < (c / group + 1) * group; ++j) {
        if (std::abs(static_cast<double>(row[j])) > std::abs(top)) top = static_cast<double>(row[j]);
      }
      const auto x = static_cast<double>(row[c]);
      const double error = static_cast<double>(back[c]) - x;
      const double allowed = bound<Codec>(x, top);
      EXPECT_LE(std::abs(error), allowed) << x << " of " << top;
      if (allowed > 0) s.of_bound = std::max(s.of_bound, std::abs(error) / allowed);
      s.max = std::max(s.max, std::abs(error / top));
      s.mean += std::abs(error / top);
      const double ulps = std::abs(error) / ulp<Codec>(x, top);
      s.max_ulp = std::max(s.max_ulp, ulps);
      s.mean_ulp += ulps;
      s.mean_signed += error / top * (top < 0 ? -1 : 1);
      squares += x * x;
      error_squares += error * error;
    }
  }
  s.mean /= static_cast<double>(rows * dim);
  s.mean_ulp /= static_cast<double>(rows * dim);
  s.mean_signed /= static_cast<double>(rows * dim);
  s.rms = std::sqrt(error_squares / squares);
  return s;
}

template <class Codec>
class CodecError : public testing::Test {};
using codecs = testing::Types<kvkeep::f32, kvkeep::f16, kvkeep::bf16, kvkeep::int8, kvkeep::int4>;
TYPED_TEST_SUITE(CodecError, codecs);

TYPED_TEST(CodecError, StaysWithinTheFormatsBound) {
  const auto run = [](data kind, const char* name) {
    const statistics s = errors_of<TypeParam>(kind);
    fmt::print(
        "{:<5} {:<22} max {:.2e}  mean {:.2e} of the group's largest; max {:.3f}  mean {:.3f} ULP; rms {:.2e} of the "
        "data's; "
        "{:.2f} of the bound\n",
        TypeParam::name, name, s.max, s.mean, s.max_ulp, s.mean_ulp, s.rms, s.of_bound);
    if (TypeParam::name == "f32") {
      EXPECT_EQ(s.max, 0.0);
      return s;
    }
    EXPECT_GT(s.of_bound, 0.95) << "the bound is not what this format has";
    // Rounding to nearest leaves no drift.
    EXPECT_LT(std::abs(s.mean_signed), 0.03 * s.mean);
    return s;
  };
  const statistics normal = run(data::normal, "normal");
  run(data::student_t, "Student's t, 3 degrees");
  run(data::outliers, "one of 50 times in 32");
  run(data::small, "times 1e-2 .. 1e-5");
  // Errors spread evenly over a step: a quarter of it on average. The half that holds the scale of int8 adds up to
  // 127.5 * 2^-11 = 0.062 to the largest.
  if (TypeParam::name == "f32") return;
  EXPECT_NEAR(normal.mean_ulp, 0.25, 0.03);
  if (TypeParam::name != "int4") {  // which clips
    EXPECT_GT(normal.max_ulp, 0.49);
    EXPECT_LT(normal.max_ulp, TypeParam::name == "int8" ? 0.57 : 0.5000001);
  }
}

TEST(CodecError, FloatsAreTheNearest) {
  // Halfway points and their neighbours, in units of the last place: never more than a half.
  dice random(3);
  for (int i = 0; i < 200000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random.next()));
    if (!std::isfinite(x)) continue;
    const float wide = std::abs(x);
    if (wide < 65520.0F) {
      const std::uint16_t bits = kvkeep::to_f16_bits(x);
      const double error = std::abs(static_cast<double>(kvkeep::from_f16_bits(bits)) - static_cast<double>(x));
      for (const int other : {-1, 1}) {
        const auto next = static_cast<std::uint16_t>(bits + other);
        if ((next & 0x7C00U) == 0x7C00U || (next ^ bits) == 0xFFFFU) continue;
        EXPECT_LE(error, std::abs(static_cast<double>(kvkeep::from_f16_bits(next)) - static_cast<double>(x))) << x;
      }
    }
    const std::uint16_t bits = kvkeep::to_bf16_bits(x);
    const float back = kvkeep::from_bf16_bits(bits);
    if (!std::isfinite(back)) continue;
    const double error = std::abs(static_cast<double>(back) - static_cast<double>(x));
    for (const int other : {-1, 1}) {
      const auto next = static_cast<std::uint16_t>(bits + other);
      const auto there = static_cast<double>(kvkeep::from_bf16_bits(next));
      if (std::isfinite(there)) {
        EXPECT_LE(error, std::abs(there - static_cast<double>(x))) << x;
      }
    }
  }
}

TEST(CodecError, EveryHalfIsWidenedAndNarrowedExactly) {
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float f16 = kvkeep::from_f16_bits(half);
    const float bf16 = kvkeep::from_bf16_bits(half);
    const bool is_nan = (half & 0x7FFFU) > 0x7C00U;
    const double magnitude = (half & 0x7C00U) == 0 ? std::ldexp(half & 0x3FF, -24)
                                                   : std::ldexp(0x400 + (half & 0x3FF), (half >> 10 & 0x1F) - 25);
    if (is_nan) {
      EXPECT_TRUE(std::isnan(f16)) << bits;
    } else {
      EXPECT_EQ(kvkeep::to_f16_bits(f16), half);
      const double expected = (half & 0x7C00U) == 0x7C00U ? static_cast<double>(INFINITY) : magnitude;
      EXPECT_EQ(static_cast<double>(f16), std::copysign(expected, half < 0x8000U ? 1.0 : -1.0)) << bits;
    }
    if (!std::isnan(bf16)) {
      EXPECT_EQ(kvkeep::to_bf16_bits(bf16), half);
    }
    // The vectors do what the scalars do.
    kvkeep::detail::vec_half many{};
    many = many + half;
    EXPECT_EQ(std::isnan(kvkeep::detail::widen_f16(many)[0]), is_nan);
    if (!is_nan) {
      EXPECT_EQ(kvkeep::detail::widen_f16(many)[0], f16);
    }
    if (!std::isnan(bf16)) {
      EXPECT_EQ(kvkeep::detail::widen_bf16(many)[0], bf16);
    }
  }
  dice random(8);
  for (int i = 0; i < 300000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random.next());
    // Halfway points and NaN too.
    const auto x = std::bit_cast<float>(i % 4 == 0    ? (bits & 0xFFFFF000U)
                                        : i % 4 == 1  ? (bits & 0xFFFF8000U)
                                        : i % 16 == 2 ? (bits | 0x7F800000U)
                                                      : bits);
    EXPECT_EQ(kvkeep::detail::narrow_f16(kvkeep::detail::splat(x))[1], kvkeep::to_f16_bits(x)) << bits;
    EXPECT_EQ(kvkeep::detail::narrow_bf16(kvkeep::detail::splat(x))[1], kvkeep::to_bf16_bits(x)) << bits;
  }
}

}  // namespace
}  // namespace kvkeep_test
