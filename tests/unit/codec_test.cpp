// What every codec promises: round trips at every row and head_dim, neighbours untouched, kernels' views equal to reading,
// non-finite rows, and errors.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <set>

#include "../support/rows.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/codec/float16.hpp"
#include "kvkeep/codec/int4.hpp"
#include "kvkeep/codec/int8.hpp"
#include "kvkeep/storage/kv_store.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::block_tokens;
using kvkeep::detail::vec_width;

constexpr std::size_t most_dim = 256;
constexpr std::size_t most_bytes = most_dim * block_tokens * sizeof(float);

template <class Codec>
std::vector<std::size_t> head_dims() {
  std::vector<std::size_t> dims{32, 64, 96, 128, 256};
  if constexpr (!Codec::integer) dims.insert(dims.end(), {1, 7, 40, 80});
  return dims;
}

/// A block of keys or of values.
struct block {
  alignas(64) std::array<std::byte, most_bytes> bytes;

  /// Bits that differ from byte to byte: what a codec does not write must stay so.
  explicit block(std::uint64_t paint = 0) {
    dice random(paint);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.next() & 0xFFU);
  }
  std::byte* data() { return bytes.data(); }
  const std::byte* data() const { return bytes.data(); }
};

/// The two halves of a codec under one name.
template <class Codec>
struct as_key {
  using codec = Codec;
  static std::size_t bytes(std::size_t d) { return Codec::key_block_bytes(d); }
  static void write(block& b, std::size_t row, std::span<const float> in) { Codec::write_key(b.data(), row, in); }
  static void read(const block& b, std::size_t row, std::span<float> out) { Codec::read_key(b.data(), row, out); }
  static void move(const block& a, std::size_t from, block& b, std::size_t to, std::size_t d) {
    Codec::move_key(a.data(), from, b.data(), to, d);
  }
  static void export_row(const block& b, std::size_t row, std::size_t d, std::byte* out) {
    Codec::export_key(b.data(), row, d, out);
  }
  static void import_row(const std::byte* in, block& b, std::size_t row, std::size_t d) {
    Codec::import_key(in, b.data(), row, d);
  }
  static float decoded(const block& b, std::size_t row, std::size_t d, std::size_t c, float* scratch) {
    return Codec::keys(b.data(), d, scratch)[c * block_tokens + row];
  }
};
template <class Codec>
struct as_value {
  using codec = Codec;
  static std::size_t bytes(std::size_t d) { return Codec::value_block_bytes(d); }
  static void write(block& b, std::size_t row, std::span<const float> in) { Codec::write_value(b.data(), row, in); }
  static void read(const block& b, std::size_t row, std::span<float> out) { Codec::read_value(b.data(), row, out); }
  static void move(const block& a, std::size_t from, block& b, std::size_t to, std::size_t d) {
    Codec::move_value(a.data(), from, b.data(), to, d);
  }
  static void export_row(const block& b, std::size_t row, std::size_t d, std::byte* out) {
    Codec::export_value(b.data(), row, d, out);
  }
  static void import_row(const std::byte* in, block& b, std::size_t row, std::size_t d) {
    Codec::import_value(in, b.data(), row, d);
  }
  static float decoded(const block& b, std::size_t row, std::size_t d, std::size_t c, float* scratch) {
    return Codec::values(b.data(), d, scratch)[row * d + c];
  }
};

using sides = testing::Types<as_key<kvkeep::f32>, as_value<kvkeep::f32>, as_key<kvkeep::f16>, as_value<kvkeep::f16>,
                             as_key<kvkeep::bf16>, as_value<kvkeep::bf16>, as_key<kvkeep::int8>, as_value<kvkeep::int8>,
                             as_key<kvkeep::int4>, as_value<kvkeep::int4>>;
using codecs = testing::Types<kvkeep::f32, kvkeep::f16, kvkeep::bf16, kvkeep::int8, kvkeep::int4>;

std::vector<float> some_row(std::size_t dim, std::uint64_t seed) {
  dice random(seed);
  std::vector<float> row(dim);
  for (float& x : row) x = random.normal();
  return row;
}

template <class Side>
std::vector<float> read(const block& b, std::size_t row, std::size_t dim) {
  std::vector<float> out(dim);
  Side::read(b, row, out);
  return out;
}
template <class Side>
std::vector<std::byte> exported(const block& b, std::size_t row, std::size_t dim) {
  std::vector<std::byte> out(Side::codec::row_bytes(dim));
  Side::export_row(b, row, dim, out.data());
  return out;
}
template <class Side>
std::vector<std::vector<std::byte>> all_rows(const block& b, std::size_t dim) {
  std::vector<std::vector<std::byte>> out;
  for (std::size_t row = 0; row < block_tokens; ++row) out.push_back(exported<Side>(b, row, dim));
  return out;
}

template <class Side>
class CodecSide : public testing::Test {};
TYPED_TEST_SUITE(CodecSide, sides);

TYPED_TEST(CodecSide, EveryRowKeepsItsOwn) {
  for (const std::size_t dim : head_dims<typename TypeParam::codec>()) {
    block all(dim);
    std::vector<std::vector<float>> expected;
    // Rows alone in a block, against the same rows beside each other, written in another order.
    for (std::size_t row = 0; row < block_tokens; ++row) {
      block alone(row);
      TypeParam::write(alone, row, some_row(dim, dim * 100 + row));
      expected.push_back(read<TypeParam>(alone, row, dim));
    }
    for (std::size_t i = 0; i < block_tokens; ++i) {
      const std::size_t row = i * 7 % block_tokens;
      TypeParam::write(all, row, some_row(dim, dim * 100 + row));
    }
    for (std::size_t row = 0; row < block_tokens; ++row) {
      EXPECT_EQ(read<TypeParam>(all, row, dim), expected[row]) << dim << " row " << row;
    }
  }
}

TYPED_TEST(CodecSide, WhatIsWrittenIsNear) {
  // Bounds of single numbers are in codec_error_test.cpp; here no component may end elsewhere.
  for (const std::size_t dim : head_dims<typename TypeParam::codec>()) {
    block b;
    std::vector<float> row(dim);
    for (std::size_t c = 0; c < dim; ++c) row[c] = static_cast<float>(c % 32) - 15.0F + static_cast<float>(c / 32);
    TypeParam::write(b, 5, row);
    const std::vector<float> back = read<TypeParam>(b, 5, dim);
    for (std::size_t c = 0; c < dim; ++c) EXPECT_NEAR(back[c], row[c], TypeParam::codec::name == "int4" ? 3.0 : 0.2);
  }
}

TYPED_TEST(CodecSide, WritingMovingAndImportingTouchNothingElse) {
  for (const std::size_t dim : head_dims<typename TypeParam::codec>()) {
    for (std::size_t row = 0; row < block_tokens; ++row) {
      const block painted(dim * 31 + row);
      const auto before = all_rows<TypeParam>(painted, dim);
      block source(99);
      TypeParam::write(source, 3, some_row(dim, row));
      const auto bytes = exported<TypeParam>(source, 3, dim);

      block written = painted;
      TypeParam::write(written, row, some_row(dim, row));
      block moved = painted;
      TypeParam::move(source, 3, moved, row, dim);
      block imported = painted;
      TypeParam::import_row(bytes.data(), imported, row, dim);
      EXPECT_EQ(written.bytes, moved.bytes) << "moving is not writing, dim " << dim << " row " << row;
      EXPECT_EQ(written.bytes, imported.bytes) << "importing is not writing, dim " << dim << " row " << row;

      const auto after = all_rows<TypeParam>(written, dim);
      std::size_t changed = 0;
      for (std::size_t i = 0; i < most_bytes; ++i) {
        if (written.bytes[i] == painted.bytes[i]) continue;
        ++changed;
        ASSERT_LT(i, TypeParam::bytes(dim)) << "behind the block";
      }
      EXPECT_LE(changed, TypeParam::codec::row_bytes(dim));
      for (std::size_t other = 0; other < block_tokens; ++other) {
        if (other == row) {
          EXPECT_EQ(after[other], bytes);
        } else {
          EXPECT_EQ(after[other], before[other]) << "dim " << dim << ", row " << row << " changed row " << other;
        }
      }
      const block source_before = source;
      TypeParam::move(source, 3, source, row, dim);  // within the block, onto itself too
      EXPECT_EQ(exported<TypeParam>(source, row, dim), bytes);
      EXPECT_EQ(exported<TypeParam>(source, 3, dim), bytes);
      if (row == 3) {
        EXPECT_EQ(source.bytes, source_before.bytes);
      }
    }
  }
}

TYPED_TEST(CodecSide, AnyBytesSurviveImportExportAndMove) {
  for (const std::size_t dim : head_dims<typename TypeParam::codec>()) {
    for (std::size_t row = 0; row < block_tokens; ++row) {
      dice random(dim + row);
      std::vector<std::byte> bytes(TypeParam::codec::row_bytes(dim));
      for (std::byte& b : bytes) b = static_cast<std::byte>(random.next() & 0xFFU);
      block a(1);
      TypeParam::import_row(bytes.data(), a, row, dim);
      EXPECT_EQ(exported<TypeParam>(a, row, dim), bytes);
      block b(2);
      TypeParam::move(a, row, b, 15 - row, dim);
      EXPECT_EQ(exported<TypeParam>(b, 15 - row, dim), bytes);
    }
  }
}

TYPED_TEST(CodecSide, WholeBlocksDecodeAsSingleRowsDo) {
  for (const std::size_t dim : head_dims<typename TypeParam::codec>()) {
    block b(dim);
    for (std::size_t row = 0; row < block_tokens; ++row) TypeParam::write(b, row, some_row(dim, row));
    std::vector<float> scratch(dim * block_tokens);
    for (std::size_t row = 0; row < block_tokens; ++row) {
      const std::vector<float> alone = read<TypeParam>(b, row, dim);
      for (std::size_t c = 0; c < dim; c += 3) {
        ASSERT_EQ(TypeParam::decoded(b, row, dim, c, scratch.data()), alone[c]) << dim << " " << row << " " << c;
      }
    }
  }
}

TYPED_TEST(CodecSide, BlocksAreWholeCacheLines) {
  using codec = typename TypeParam::codec;
  for (const std::size_t dim : head_dims<codec>()) {
    EXPECT_EQ(TypeParam::bytes(dim) % 64, 0U) << dim;
    EXPECT_GE(TypeParam::bytes(dim), block_tokens * codec::row_bytes(dim));
    EXPECT_LT(TypeParam::bytes(dim), block_tokens * codec::row_bytes(dim) + 64);
  }
  const std::map<std::string_view, std::size_t> row_of_128{
      {"f32", 512}, {"f16", 256}, {"bf16", 256}, {"int8", 136}, {"int4", 72}};
  EXPECT_EQ(codec::row_bytes(128), row_of_128.at(codec::name));
}

TYPED_TEST(CodecSide, NonFiniteComponentsSpoilTheirOwn) {
  using codec = typename TypeParam::codec;
  constexpr std::size_t dim = 96;
  constexpr std::size_t group = codec::integer ? 32 : 1;
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, std::bit_cast<float>(0x7F800001U)};
  for (const float x : bad) {
    for (std::size_t at = 0; at < dim; ++at) {
      block b;
      for (std::size_t row = 0; row < block_tokens; ++row) TypeParam::write(b, row, some_row(dim, row));
      std::vector<float> row = some_row(dim, 77);
      TypeParam::write(b, 9, row);
      const std::vector<float> clean = read<TypeParam>(b, 9, dim);
      row[at] = x;
      TypeParam::write(b, 9, row);
      const std::vector<float> spoilt = read<TypeParam>(b, 9, dim);
      for (std::size_t c = 0; c < dim; ++c) {
        if (c / group != at / group) {
          EXPECT_EQ(spoilt[c], clean[c]) << "component " << c << " of another group";
        } else if (codec::integer || std::isnan(x)) {
          EXPECT_TRUE(std::isnan(spoilt[c])) << c;
        } else {
          EXPECT_EQ(spoilt[c], x);
        }
      }
      block other;
      for (std::size_t r = 0; r < block_tokens; ++r) TypeParam::write(other, r, some_row(dim, r));
      for (std::size_t r = 0; r < block_tokens; ++r) {
        if (r != 9) {
          EXPECT_EQ(exported<TypeParam>(b, r, dim), exported<TypeParam>(other, r, dim)) << "row " << r;
        }
      }
    }
  }
}

TYPED_TEST(CodecSide, ExtremesAreWhatTheFormatHas) {
  using codec = typename TypeParam::codec;
  constexpr float largest = std::numeric_limits<float>::max();
  constexpr float tiny = std::numeric_limits<float>::denorm_min();
  for (const float x : {0.0F, -0.0F, tiny, 1e-41F, 1e-38F, 3e-38F, 1e-36F, 1e-10F, 65504.0F, 65520.0F, 500000.0F,
                        524160.0F, 8319008.0F, 8.4e6F, 1e30F, largest}) {
    for (const float sign : {1.0F, -1.0F}) {
      constexpr std::size_t dim = 32;
      block b;
      std::vector<float> row(dim);
      for (std::size_t c = 0; c < dim; ++c) row[c] = c % 3 == 1 ? 0.0F : c == 4 ? -sign * x : sign * x;
      row[4] *= 0.875F;
      TypeParam::write(b, 2, row);
      const std::vector<float> back = read<TypeParam>(b, 2, dim);
      for (std::size_t c = 0; c < dim; ++c) {
        const double exact = static_cast<double>(row[c]);
        double expected = exact;
        double error = 0;
        if (codec::name == "f16") {
          error = std::max(std::abs(exact) * 0x1p-11, 0x1p-25);
          if (std::abs(exact) >= 65520) expected = std::copysign(INFINITY, exact);
        } else if (codec::name == "bf16") {
          error = std::max(std::abs(exact) * 0x1p-8, 0x1p-134);
          if (std::abs(exact) >= 0x1.FFp127) expected = std::copysign(INFINITY, exact);
        } else if (codec::integer) {
          // The scale is a half: it ends at 65504, and below 2^-14 is a multiple of 2^-24.
          const double steps = codec::name == "int8" ? 127 : 8;
          expected = std::clamp(exact, -65504.0 * steps, 65504.0 * steps);
          const double scale = std::min(static_cast<double>(x) / steps, 65504.0);
          error = std::abs(expected) * 0x1p-11 + steps * 0x1p-25 + scale * (0.5 + 1e-6);
        }
        if (std::isinf(expected)) {
          EXPECT_EQ(static_cast<double>(back[c]), expected) << x;
        } else {
          EXPECT_NEAR(static_cast<double>(back[c]), expected, error) << sign * x << " component " << c;
        }
        if (row[c] == 0.0F) {
          EXPECT_EQ(back[c], 0.0F);
        }
      }
    }
  }
}

template <class Codec>
class CodecItself : public testing::Test {};
TYPED_TEST_SUITE(CodecItself, codecs);

TYPED_TEST(CodecItself, RefusesHeadDimsThatDoNotFit) {
  for (std::size_t dim = 1; dim <= 300; ++dim) {
    const auto checked = TypeParam::check(dim);
    if (!TypeParam::integer || dim % 32 == 0) {
      EXPECT_TRUE(checked) << dim;
      continue;
    }
    ASSERT_FALSE(checked) << dim;
    EXPECT_EQ(checked.error().code(), kvkeep::errc::invalid_argument);
    EXPECT_EQ(checked.error().argument(), "head_dim");
    EXPECT_EQ(checked.error().message(),
              fmt::format("kvkeep: head_dim = {}; allowed: a multiple of 32 for the codec {}", dim, TypeParam::name));
  }
}

TYPED_TEST(CodecItself, DotProductsAreThoseOfTheDecodedKey) {
  for (const std::size_t dim : head_dims<TypeParam>()) {
    for (std::size_t row = 0; row < block_tokens; ++row) {
      block b;
      TypeParam::write_key(b.data(), row, some_row(dim, row));
      std::vector<float> key(dim);
      TypeParam::read_key(b.data(), row, key);
      const std::vector<float> query = some_row(dim, 1000 + row);
      double dot = 0;
      double size = 0;
      for (std::size_t c = 0; c < dim; ++c) {
        dot += static_cast<double>(key[c]) * static_cast<double>(query[c]);
        size += std::abs(static_cast<double>(key[c]) * static_cast<double>(query[c]));
      }
      EXPECT_NEAR(static_cast<double>(TypeParam::dot_key(b.data(), row, query)), dot, 4e-6 * size);
    }
  }
}

TYPED_TEST(CodecItself, KernelsSeeWhatIsRead) {
  for (const std::size_t dim : head_dims<TypeParam>()) {
    block keys(dim);
    block values(dim + 1);
    std::vector<std::vector<float>> key(block_tokens, std::vector<float>(dim));
    std::vector<std::vector<float>> value(block_tokens, std::vector<float>(dim));
    for (std::size_t row = 0; row < block_tokens; ++row) {
      TypeParam::write_key(keys.data(), row, some_row(dim, row));
      TypeParam::write_value(values.data(), row, some_row(dim, 50 + row));
      TypeParam::read_key(keys.data(), row, key[row]);
      TypeParam::read_value(values.data(), row, value[row]);
    }
    constexpr std::size_t parts = block_tokens / vec_width;
    if constexpr (TypeParam::integer) {
      EXPECT_EQ(TypeParam::bias, TypeParam::name == "int8" ? 128 : 8);
      for (std::size_t part = 0; part < parts; ++part) {
        for (std::size_t quad = 0; quad < dim / 4; ++quad) {
          const auto bytes = TypeParam::key_quads(keys.data(), quad, part);
          const auto scales = TypeParam::key_scales(keys.data(), dim, quad / 8, part);
          for (std::size_t lane = 0; lane < vec_width; ++lane) {
            for (std::size_t i = 0; i < 4; ++i) {
              const auto byte = static_cast<std::int32_t>(static_cast<std::uint32_t>(bytes[lane]) >> (8 * i) & 0xFFU);
              ASSERT_LE(byte, TypeParam::name == "int8" ? 255 : 15);
              ASSERT_EQ(static_cast<float>(byte - TypeParam::bias) * scales[lane],
                        key[part * vec_width + lane][quad * 4 + i]);
            }
          }
        }
        for (std::size_t c = 0; c < dim; ++c) {
          const auto scales = TypeParam::value_scales(values.data(), dim, c / 32, part);
          for (std::size_t lane = 0; lane < vec_width; ++lane) {
            const std::size_t row = part * vec_width + lane;
            ASSERT_EQ(TypeParam::value_at(values.data(), row, dim, c) * scales[lane], value[row][c]);
          }
        }
      }
      for (std::size_t row = 0; row < block_tokens; ++row) {
        for (std::size_t c = 0; c < dim; c += vec_width) {
          const auto found = TypeParam::value_vector(values.data(), row, dim, c);
          for (std::size_t i = 0; i < vec_width; ++i) {
            ASSERT_EQ(found[i], TypeParam::value_at(values.data(), row, dim, c + i));
          }
        }
      }
    } else {
      for (std::size_t c = 0; c < dim; ++c) {
        for (std::size_t part = 0; part < parts; ++part) {
          const auto found = TypeParam::key_vector(keys.data(), c, part);
          for (std::size_t i = 0; i < vec_width; ++i) ASSERT_EQ(found[i], key[part * vec_width + i][c]);
        }
        for (std::size_t row = 0; row < block_tokens; ++row) {
          ASSERT_EQ(TypeParam::value_at(values.data(), row, dim, c), value[row][c]);
          if (c + vec_width > dim) continue;
          const auto found = TypeParam::value_vector(values.data(), row, dim, c);
          for (std::size_t i = 0; i < vec_width; ++i) ASSERT_EQ(found[i], value[row][c + i]);
        }
      }
    }
  }
}

TYPED_TEST(CodecItself, IntegersOfSpoiltGroupsAreNotZero) {
  // Or a kernel that multiplies the scale of a whole sum could miss them.
  if constexpr (TypeParam::integer) {
    for (const float x : {NAN, INFINITY, -INFINITY}) {
      block b;
      std::vector<float> row = some_row(64, 1);
      row[40] = x;
      TypeParam::write_value(b.data(), 3, row);
      for (std::size_t c = 32; c < 64; ++c) EXPECT_NE(TypeParam::value_at(b.data(), 3, 64, c), 0.0F);
      for (std::size_t part = 0; part < block_tokens / vec_width; ++part) {
        const auto scales = TypeParam::value_scales(b.data(), 64, 1, part);
        if (part == 3 / vec_width) {
          EXPECT_TRUE(std::isnan(scales[3 % vec_width]));
        }
      }
    }
  }
}

TYPED_TEST(CodecItself, IntegersOfVanishingGroupsAreZero) {
  // 1 / scale is no float here, and must not be multiplied with.
  if constexpr (TypeParam::integer) {
    for (const float x : {1e-41F, -1e-41F, std::numeric_limits<float>::denorm_min()}) {
      block b;
      std::vector<float> row(32, x);
      row[7] = 0.0F;
      TypeParam::write_value(b.data(), 3, row);
      for (std::size_t c = 0; c < 32; ++c) EXPECT_EQ(TypeParam::value_at(b.data(), 3, 32, c), 0.0F) << x;
    }
  }
}

TYPED_TEST(CodecItself, StoreExportsAndImportsTokens) {
  constexpr std::size_t dim = 64;
  kvkeep::detail::arena memory(1U << 18U);
  kvkeep::kv_store<TypeParam, kvkeep::f16> store;
  store.lay_out(memory, 2, 3, dim);
  std::vector<std::byte> key(TypeParam::row_bytes(dim));
  std::vector<std::byte> value(kvkeep::f16::row_bytes(dim));
  std::set<std::vector<std::byte>> seen;
  for (std::size_t s = 0; s < 48; ++s) {
    store.write(1, kvkeep::to_slot(s), some_row(dim, s), some_row(dim, 100 + s));
    store.export_row(1, kvkeep::to_slot(s), key, value);
    store.import_row(0, kvkeep::to_slot(47 - s), key, value);
    EXPECT_TRUE(seen.insert(key).second) << "another token's row";
  }
  for (std::size_t s = 0; s < 48; ++s) {
    std::vector<std::byte> key_here(key.size());
    std::vector<std::byte> value_here(value.size());
    store.view(0).export_row(kvkeep::to_slot(47 - s), key_here, value_here);
    store.export_row(1, kvkeep::to_slot(s), key, value);
    EXPECT_EQ(key_here, key);
    EXPECT_EQ(value_here, value);
    std::vector<float> here(dim);
    std::vector<float> there(dim);
    store.view(0).copy_key(kvkeep::to_slot(47 - s), here);
    store.view(1).copy_key(kvkeep::to_slot(s), there);
    EXPECT_EQ(here, there);
  }
}

// The layouts that kernels are written for, byte by byte: a change here is a change of the kernels and of what is exported.

TEST(Layout, OfInt8) {
  constexpr std::size_t dim = 64;
  block keys;
  block values;
  std::vector<std::byte> row(kvkeep::int8::row_bytes(dim));
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<std::byte>(i * 3 + 1);
  constexpr std::size_t token = 11;
  kvkeep::int8::import_key(row.data(), keys.data(), token, dim);
  kvkeep::int8::import_value(row.data(), values.data(), token, dim);
  for (std::size_t c = 0; c < dim; ++c) {
    const std::byte quant = row[c / 32 * 34 + 2 + c % 32];
    EXPECT_EQ(keys.bytes[c / 4 * 64 + token * 4 + c % 4], quant ^ std::byte{0x80});
    EXPECT_EQ(values.bytes[(token / 4 * dim + c) * 4 + token % 4], quant ^ std::byte{0x80});
  }
  for (std::size_t g = 0; g < 2; ++g) {
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(keys.bytes[16 * dim + (g * 16 + token) * 2 + i], row[g * 34 + i]);
      EXPECT_EQ(values.bytes[16 * dim + (g * 16 + token) * 2 + i], row[g * 34 + i]);
    }
  }
  EXPECT_EQ(kvkeep::int8::key_block_bytes(32), 576U);
  EXPECT_EQ(kvkeep::int8::key_block_bytes(128), 2176U);
}

TEST(Layout, OfInt4) {
  constexpr std::size_t dim = 64;
  block keys;
  block values;
  std::vector<std::byte> row(kvkeep::int4::row_bytes(dim));
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<std::byte>(i * 37 + 5);
  constexpr std::size_t token = 6;
  kvkeep::int4::import_key(row.data(), keys.data(), token, dim);
  kvkeep::int4::import_value(row.data(), values.data(), token, dim);
  const auto half = [](std::byte both, bool high) {
    return std::to_integer<int>(high ? both >> 4 : both & std::byte{15});
  };
  for (std::size_t c = 0; c < dim; ++c) {
    const bool high = c % 32 >= 16;
    const int quant = half(row[c / 32 * 18 + 2 + c % 16], high);
    EXPECT_EQ(half(keys.bytes[c / 32 * 256 + c % 16 / 4 * 64 + token * 4 + c % 4], high), quant);
    EXPECT_EQ(half(values.bytes[(token / 4 * dim / 2 + c / 32 * 16 + c % 16) * 4 + token % 4], high), quant);
    EXPECT_EQ(kvkeep::int4::value_at(values.data(), token, dim, c), static_cast<float>(quant - 8));
  }
  for (std::size_t g = 0; g < 2; ++g) {
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(keys.bytes[8 * dim + (g * 16 + token) * 2 + i], row[g * 18 + i]);
      EXPECT_EQ(values.bytes[8 * dim + (g * 16 + token) * 2 + i], row[g * 18 + i]);
    }
  }
  EXPECT_EQ(kvkeep::int4::key_block_bytes(32), 320U);
  EXPECT_EQ(kvkeep::int4::key_block_bytes(128), 1152U);
}

}  // namespace
}  // namespace kvkeep_test
