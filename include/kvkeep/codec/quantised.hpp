// quantised: what int8 and int4 share: rows of integers with a scale, an IEEE half, a group of 32 components.
//
// A group of a row is Format::group_bytes bytes, in ggml's order. Where they are, for a block of 16 tokens:
//   keys    [head_dim / 32][group_bytes / 4][16 tokens][4 bytes]
//   values  [16 tokens / 4][head_dim / 32][group_bytes][4 tokens]
// with every byte exclusive-or Format::flip,
// and after either the scales [head_dim / 32][16 tokens]; then what is missing to a multiple of 64 bytes. So four bytes that
// stand together are what an instruction multiplies and adds: four components of a key, one component of four values.
#ifndef KVKEEP_CODEC_QUANTISED_HPP
#define KVKEEP_CODEC_QUANTISED_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "kvkeep/codec/codec.hpp"
#include "kvkeep/codec/half.hpp"
#include "kvkeep/codec/quants.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A codec of integers with scales. Format has `name`; `group_bytes`, `flip` and `bias`; `encode(in, out)`, which makes the
/// bytes of a group and returns its scale; `quants(bytes, c)`, the integers of components c, ... of a group as floats;
/// `byte_of(c)`, which byte of a group has component c, and `bytes_of(words, c)`, which makes of words with that byte of four
/// tokens, or with that byte and the next three, one unsigned byte each.
template <class Format>
struct basic_quantised {
  static constexpr std::string_view name = Format::name;
  static constexpr bool integer = true;
  /// What the bytes of key_quads and value_quads are more than the integers they stand for.
  static constexpr std::int32_t bias = Format::bias;

  [[nodiscard]] static result<void> check(std::size_t head_dim) {
    if (head_dim % group != 0) {
      return detail::bad_argument("head_dim", head_dim, fmt::format("a multiple of 32 for the codec {}", name));
    }
    return {};
  }
  [[nodiscard]] static constexpr std::size_t key_block_bytes(std::size_t head_dim) noexcept {
    return (scales_at(head_dim) + head_dim / group * block_tokens * sizeof(std::uint16_t) + 63) / 64 * 64;
  }
  [[nodiscard]] static constexpr std::size_t value_block_bytes(std::size_t head_dim) noexcept {
    return key_block_bytes(head_dim);
  }

  static void write_key(std::byte* block, std::size_t row, std::span<const float> in) noexcept {
    for (std::size_t g = 0; g < in.size() / group; ++g) {
      group_of_row bytes;
      set_scale(block, row, in.size(), g, Format::encode(in.data() + g * group, bytes.data()));
      put_key(block, row, g, bytes);
    }
  }
  static void write_value(std::byte* block, std::size_t row, std::span<const float> in) noexcept {
    for (std::size_t g = 0; g < in.size() / group; ++g) {
      group_of_row bytes;
      set_scale(block, row, in.size(), g, Format::encode(in.data() + g * group, bytes.data()));
      put_value(block, row, in.size(), g, bytes);
    }
  }
  static void read_key(const std::byte* block, std::size_t row, std::span<float> out) noexcept {
    for (std::size_t g = 0; g < out.size() / group; ++g) {
      decode(get_key(block, row, g).data(), scale(block, row, out.size(), g), out.data() + g * group);
    }
  }
  static void read_value(const std::byte* block, std::size_t row, std::span<float> out) noexcept {
    for (std::size_t g = 0; g < out.size() / group; ++g) {
      decode(get_value(block, row, out.size(), g).data(), scale(block, row, out.size(), g), out.data() + g * group);
    }
  }
  static void move_key(const std::byte* from, std::size_t from_row, std::byte* to, std::size_t to_row,
                       std::size_t head_dim) noexcept {
    for (std::size_t g = 0; g < head_dim / group; ++g) {
      put_key(to, to_row, g, get_key(from, from_row, g));
      set_scale(to, to_row, head_dim, g, scale_bits(from, from_row, head_dim, g));
    }
  }
  static void move_value(const std::byte* from, std::size_t from_row, std::byte* to, std::size_t to_row,
                         std::size_t head_dim) noexcept {
    for (std::size_t g = 0; g < head_dim / group; ++g) {
      put_value(to, to_row, head_dim, g, get_value(from, from_row, head_dim, g));
      set_scale(to, to_row, head_dim, g, scale_bits(from, from_row, head_dim, g));
    }
  }
  [[nodiscard]] static float dot_key(const std::byte* block, std::size_t row, std::span<const float> query) noexcept {
    float sum = 0.0F;
    for (std::size_t g = 0; g < query.size() / group; ++g) {
      const group_of_row bytes = get_key(block, row, g);
      detail::vec part{};
      for (std::size_t c = 0; c < group; c += detail::vec_width) {
        part += detail::load(query.data() + g * group + c) * Format::quants(bytes.data(), c);
      }
      sum += detail::sum_of(part) * scale(block, row, query.size(), g);
    }
    return sum;
  }
  [[nodiscard]] static const float* keys(const std::byte* block, std::size_t head_dim, float* scratch) noexcept {
    for (std::size_t quad = 0; quad < head_dim / 4; ++quad) {
      for (std::size_t part = 0; part < block_tokens / detail::vec_width; ++part) {
        const detail::vec_int bytes = key_quads(block, quad, part);
        const detail::vec scales = key_scales(block, head_dim, quad * 4 / group, part);
        for (std::size_t i = 0; i < 4; ++i) {
          detail::store(scratch + (quad * 4 + i) * block_tokens + part * detail::vec_width, byte_of(bytes, i) * scales);
        }
      }
    }
    return scratch;
  }
  [[nodiscard]] static const float* values(const std::byte* block, std::size_t head_dim, float* scratch) noexcept {
    for (std::size_t quad = 0; quad < block_tokens / 4; ++quad) {
      for (std::size_t c = 0; c < head_dim; c += detail::vec_width) {
        const detail::vec_int bytes = value_quads(block, quad, head_dim, c);
        for (std::size_t i = 0; i < 4; ++i) {
          const float factor = scale(block, quad * 4 + i, head_dim, c / group);
          detail::store(scratch + (quad * 4 + i) * head_dim + c, byte_of(bytes, i) * detail::splat(factor));
        }
      }
    }
    return scratch;
  }

  /// A row as head_dim / 32 blocks of ggml: a scale, then the bytes of the group.
  [[nodiscard]] static constexpr std::size_t row_bytes(std::size_t head_dim) noexcept {
    return head_dim / group * exported_bytes;
  }
  static void export_key(const std::byte* block, std::size_t row, std::size_t head_dim, std::byte* out) noexcept {
    for (std::size_t g = 0; g < head_dim / group; ++g, out += exported_bytes) {
      const std::uint16_t bits = scale_bits(block, row, head_dim, g);
      std::memcpy(out, &bits, sizeof bits);
      std::memcpy(out + sizeof bits, get_key(block, row, g).data(), Format::group_bytes);
    }
  }
  static void export_value(const std::byte* block, std::size_t row, std::size_t head_dim, std::byte* out) noexcept {
    for (std::size_t g = 0; g < head_dim / group; ++g, out += exported_bytes) {
      const std::uint16_t bits = scale_bits(block, row, head_dim, g);
      std::memcpy(out, &bits, sizeof bits);
      std::memcpy(out + sizeof bits, get_value(block, row, head_dim, g).data(), Format::group_bytes);
    }
  }
  static void import_key(const std::byte* in, std::byte* block, std::size_t row, std::size_t head_dim) noexcept {
    for (std::size_t g = 0; g < head_dim / group; ++g, in += exported_bytes) {
      set_scale(block, row, head_dim, g, detail::load<std::uint16_t>(in));
      put_key(block, row, g, detail::load<group_of_row>(in + sizeof(std::uint16_t)));
    }
  }
  static void import_value(const std::byte* in, std::byte* block, std::size_t row, std::size_t head_dim) noexcept {
    for (std::size_t g = 0; g < head_dim / group; ++g, in += exported_bytes) {
      set_scale(block, row, head_dim, g, detail::load<std::uint16_t>(in));
      put_value(block, row, head_dim, g, detail::load<group_of_row>(in + sizeof(std::uint16_t)));
    }
  }

  /// Keys part * vec_width, ... of a block: in each lane 4 unsigned bytes, integer + bias of components 4 quad .. 4 quad + 3,
  /// the first in the lowest byte.
  [[nodiscard]] static detail::vec_int key_quads(const std::byte* block, std::size_t quad, std::size_t part) noexcept {
    const std::size_t c = quad * 4;
    const std::size_t word = (c / group * Format::group_bytes + Format::byte_of(c % group)) / 4;
    return Format::bytes_of(detail::load<detail::vec_int>(block + word_at(word, part * detail::vec_width)), c % group);
  }
  /// Values 4 quad .. 4 quad + 3 of a block: in each lane 4 unsigned bytes, integer + bias of one component of each, the first
  /// value in the lowest byte; components c, ..., a multiple of vec_width.
  [[nodiscard]] static detail::vec_int value_quads(const std::byte* block, std::size_t quad, std::size_t head_dim,
                                                   std::size_t c) noexcept {
    const std::byte* const from = block + value_place(quad * 4, head_dim, c / group, Format::byte_of(c % group));
    return Format::bytes_of(detail::load<detail::vec_int>(from), c % group);
  }
  /// The scales of keys part * vec_width, ... for components 32 g .. 32 g + 31.
  [[nodiscard]] static detail::vec key_scales(const std::byte* block, std::size_t head_dim, std::size_t g,
                                              std::size_t part) noexcept {
    return detail::widen_f16(detail::load<detail::vec_half>(block + scale_at(part * detail::vec_width, head_dim, g)));
  }
  /// The same for values.
  [[nodiscard]] static detail::vec value_scales(const std::byte* block, std::size_t head_dim, std::size_t g,
                                                std::size_t part) noexcept {
    return key_scales(block, head_dim, g, part);
  }
  /// The integers of component c of keys part * vec_width, ..., without their scales.
  [[nodiscard]] static detail::vec key_vector(const std::byte* block, std::size_t c, std::size_t part) noexcept {
    return byte_of(key_quads(block, c / 4, part), c % 4);
  }
  /// The integers of components c, ... of a value, without their scale; c is a multiple of vec_width.
  [[nodiscard]] static detail::vec value_vector(const std::byte* block, std::size_t row, std::size_t head_dim,
                                                std::size_t c) noexcept {
    return byte_of(value_quads(block, row / 4, head_dim, c), row % 4);
  }
  /// The integer of one component, without its scale too.
  [[nodiscard]] static float value_at(const std::byte* block, std::size_t row, std::size_t head_dim,
                                      std::size_t c) noexcept {
    const std::size_t first =
        c % group / detail::vec_width * detail::vec_width;  // of its vector, which stays in the group
    return value_vector(block, row, head_dim, c / group * group + first)[c % group - first];
  }

 private:
  static constexpr std::size_t group = detail::group_size;
  static constexpr std::size_t words = Format::group_bytes / 4;  // of a group of one row
  static constexpr std::uint32_t word_flip = Format::flip * 0x01010101U;
  static constexpr std::size_t exported_bytes = sizeof(std::uint16_t) + Format::group_bytes;
  using group_of_row = std::array<std::byte, Format::group_bytes>;

  [[nodiscard]] static constexpr std::size_t scales_at(std::size_t head_dim) noexcept {
    return head_dim / group * Format::group_bytes * block_tokens;
  }
  [[nodiscard]] static constexpr std::size_t scale_at(std::size_t row, std::size_t head_dim, std::size_t g) noexcept {
    return scales_at(head_dim) + (g * block_tokens + row) * sizeof(std::uint16_t);
  }
  [[nodiscard]] static constexpr std::size_t word_at(std::size_t word, std::size_t row) noexcept {
    return (word * block_tokens + row) * 4;
  }
  /// Where byte i of a group of a value is.
  [[nodiscard]] static constexpr std::size_t value_place(std::size_t row, std::size_t head_dim, std::size_t g,
                                                         std::size_t i) noexcept {
    return ((row / 4 * (head_dim / group) + g) * Format::group_bytes + i) * 4 + row % 4;
  }
  /// Byte i of every word as the integer it stands for.
  [[nodiscard]] static detail::vec byte_of(detail::vec_int packed, std::size_t i) noexcept {
    return detail::to_float((packed >> static_cast<int>(8 * i) & 0xFF) - bias);
  }
  [[nodiscard]] static std::uint16_t scale_bits(const std::byte* block, std::size_t row, std::size_t head_dim,
                                                std::size_t g) noexcept {
    return detail::load<std::uint16_t>(block + scale_at(row, head_dim, g));
  }
  [[nodiscard]] static float scale(const std::byte* block, std::size_t row, std::size_t head_dim,
                                   std::size_t g) noexcept {
    return from_f16_bits(scale_bits(block, row, head_dim, g));
  }
  static void set_scale(std::byte* block, std::size_t row, std::size_t head_dim, std::size_t g,
                        std::uint16_t bits) noexcept {
    std::memcpy(block + scale_at(row, head_dim, g), &bits, sizeof bits);
  }
  [[nodiscard]] static group_of_row get_key(const std::byte* block, std::size_t row, std::size_t g) noexcept {
    group_of_row bytes;
    for (std::size_t w = 0; w < words; ++w) {
      const std::uint32_t word = detail::load<std::uint32_t>(block + word_at(g * words + w, row)) ^ word_flip;
      std::memcpy(bytes.data() + w * 4, &word, 4);
    }
    return bytes;
  }
  static void put_key(std::byte* block, std::size_t row, std::size_t g, const group_of_row& bytes) noexcept {
    for (std::size_t w = 0; w < words; ++w) {
      const std::uint32_t word = detail::load<std::uint32_t>(bytes.data() + w * 4) ^ word_flip;
      std::memcpy(block + word_at(g * words + w, row), &word, 4);
    }
  }
  [[nodiscard]] static group_of_row get_value(const std::byte* block, std::size_t row, std::size_t head_dim,
                                              std::size_t g) noexcept {
    const std::byte* const from = block + value_place(row, head_dim, g, 0);
    group_of_row bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = from[4 * i] ^ std::byte{Format::flip};
    return bytes;
  }
  static void put_value(std::byte* block, std::size_t row, std::size_t head_dim, std::size_t g,
                        const group_of_row& bytes) noexcept {
    std::byte* const to = block + value_place(row, head_dim, g, 0);
    for (std::size_t i = 0; i < bytes.size(); ++i) to[4 * i] = bytes[i] ^ std::byte{Format::flip};
  }
  static void decode(const std::byte* bytes, float scale, float* out) noexcept {
    for (std::size_t c = 0; c < group; c += detail::vec_width) {
      detail::store(out + c, Format::quants(bytes, c) * detail::splat(scale));
    }
  }
};

KVKEEP_NAMESPACE_END

#endif
