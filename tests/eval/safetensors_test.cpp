// The numbers that a safetensors file holds, type by type.
#include "safetensors.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "fake_model.hpp"
#include "support.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::matrix;
using kvkeep_eval::safetensors;

// Elements as a little-endian file stores them; the machine is little endian, or kvkeep-eval would not compile.
template <class T>
std::string bytes_of(const std::vector<T>& elements) {
  std::string out(elements.size() * sizeof(T), '\0');
  std::memcpy(out.data(), elements.data(), out.size());
  return out;
}

// The tensor that a file with nothing but these bytes gives.
matrix read_one(const char* dtype, const std::vector<std::size_t>& shape, const std::string& bytes) {
  const temporary_directory directory;
  weights file;
  file.add("other", "F32", {1}, std::string(4, 'x'));
  file.add("x", dtype, shape, bytes);
  write_file(directory.path() / "w", file.bytes());
  return safetensors(directory.path() / "w").read("x", shape);
}

// The value of a number with these fields, by the definition in IEEE 754.
float value_of(unsigned bits, int exponent_bits, int fraction_bits) {
  const auto fraction = static_cast<double>(bits & ((1U << fraction_bits) - 1U));
  const int exponent = static_cast<int>(bits >> fraction_bits & ((1U << exponent_bits) - 1U));
  const double sign = (bits >> (exponent_bits + fraction_bits)) != 0 ? -1.0 : 1.0;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) {
    if (fraction > 0) return std::numeric_limits<float>::quiet_NaN();
    return static_cast<float>(sign) * std::numeric_limits<float>::infinity();
  }
  if (exponent == 0) return static_cast<float>(sign * std::ldexp(fraction, 1 - bias - fraction_bits));
  const double leading = std::ldexp(1.0, fraction_bits);
  return static_cast<float>(sign * std::ldexp(leading + fraction, exponent - bias - fraction_bits));
}

void expect_same(float value, float expected, unsigned stored) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(value)) << fmt::format("{:#06x} became {}", stored, value);
    return;
  }
  EXPECT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(expected))
      << fmt::format("{:#06x} became {}, not {}", stored, value, expected);
}

// Every number of a 16-bit type there is, in a matrix and, for the last few, in a vector of odd length.
void expect_all_sixteen_bits(const char* dtype, int exponent_bits, int fraction_bits) {
  std::vector<std::uint16_t> stored(1U << 16U);
  for (std::size_t i = 0; i < stored.size(); ++i) stored[i] = static_cast<std::uint16_t>(i);
  const matrix all = read_one(dtype, {256, 256}, bytes_of(stored));
  ASSERT_EQ(all.rows(), 256);
  ASSERT_EQ(all.cols(), 256);
  for (unsigned i = 0; i < stored.size(); ++i) {
    expect_same(all(i / 256, i % 256), value_of(i, exponent_bits, fraction_bits), i);
  }

  const std::vector<std::uint16_t> few{0x0001, 0x8001, 0x3c00, 0x7f80, 0x7c00, 0xff80, 0x8000};
  const matrix row = read_one(dtype, {few.size()}, bytes_of(few));
  ASSERT_EQ(row.rows(), 1);
  ASSERT_EQ(row.cols(), 7);
  for (unsigned i = 0; i < few.size(); ++i) {
    expect_same(row(0, i), value_of(few[i], exponent_bits, fraction_bits), few[i]);
  }
}

TEST(Safetensors, EveryHalfIsExact) { expect_all_sixteen_bits("F16", 5, 10); }
TEST(Safetensors, EveryBfloat16IsExact) { expect_all_sixteen_bits("BF16", 8, 7); }

TEST(Safetensors, KnownHalvesAndBfloat16s) {
  const matrix half =
      read_one("F16", {2, 3}, bytes_of<std::uint16_t>({0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0xfc00}));
  EXPECT_EQ(half(0, 0), 1.0F);
  EXPECT_EQ(half(0, 1), -2.0F);
  EXPECT_EQ(half(0, 2), 0x1p-24F);
  EXPECT_EQ(half(1, 0), 0x3ffp-24F);
  EXPECT_EQ(half(1, 1), 65504.0F);
  EXPECT_EQ(half(1, 2), -std::numeric_limits<float>::infinity());

  const matrix brain = read_one("BF16", {5}, bytes_of<std::uint16_t>({0x3f80, 0xc0a0, 0x0001, 0x7f7f, 0x7f80}));
  EXPECT_EQ(brain(0, 0), 1.0F);
  EXPECT_EQ(brain(0, 1), -5.0F);
  EXPECT_EQ(brain(0, 2), 0x1p-133F);
  EXPECT_EQ(brain(0, 3), 0x1.fep127F);
  EXPECT_EQ(brain(0, 4), std::numeric_limits<float>::infinity());
}

TEST(Safetensors, EveryFloatKeepsItsBits) {
  using limits = std::numeric_limits<float>;
  std::vector<float> stored{0.0F, -0.0F, 1.0F, -1.5F, limits::denorm_min(), -limits::denorm_min(), 0x7fffffp-149F};
  for (const float more : {limits::min(), limits::max(), limits::lowest(), limits::infinity(), -limits::infinity()}) {
    stored.push_back(more);
  }
  for (std::uint32_t bits = 0x00000123U; bits < 0x7f800000U; bits += 0x00345679U) {
    stored.push_back(std::bit_cast<float>(bits));
  }
  const matrix read = read_one("F32", {stored.size()}, bytes_of(stored));
  ASSERT_EQ(read.size(), kvkeep_eval::index(stored.size()));
  for (std::size_t i = 0; i < stored.size(); ++i) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(read(kvkeep_eval::index(i))), std::bit_cast<std::uint32_t>(stored[i]))
        << stored[i];
  }
}

TEST(Safetensors, RowsAreRows) {
  const matrix read = read_one("F32", {3, 2}, bytes_of<float>({1, 2, 3, 4, 5, 6}));
  ASSERT_EQ(read.rows(), 3);
  ASSERT_EQ(read.cols(), 2);
  for (Eigen::Index i = 0; i < 3; ++i) {
    EXPECT_EQ(read(i, 0), static_cast<float>(2 * i + 1));
    EXPECT_EQ(read(i, 1), static_cast<float>(2 * i + 2));
  }
}

TEST(Safetensors, RemembersWhatNobodyRead) {
  const temporary_directory directory;
  weights tensors;
  for (const char* const name : {"b", "c", "a"}) tensors.add(name, "F32", {1}, std::string(4, '\0'));
  write_file(directory.path() / "w", tensors.bytes());
  safetensors file(directory.path() / "w");
  EXPECT_EQ(file.unread(), (std::vector<std::string>{"a", "b", "c"}));
  static_cast<void>(file.read("b", {1}));
  EXPECT_EQ(file.unread(), (std::vector<std::string>{"a", "c"}));
}

}  // namespace
}  // namespace kvkeep_eval_test
