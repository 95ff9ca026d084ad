// f16, bf16: rows stored as 16-bit floats.
//
// A key or value is rounded once, when it is written, to the nearest number of the format; scores and sums are fp32.
#ifndef KVKEEP_CODEC_FLOAT16_HPP
#define KVKEEP_CODEC_FLOAT16_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "kvkeep/codec/codec.hpp"
#include "kvkeep/codec/half.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A codec of 16-bit floats: 2 bytes a component, keys [head_dim][16], values [16][head_dim]. Format has `name`;
/// `decode`, a number of it as float; and the same of a vector, `widen`, with its inverse `narrow`.
template <class Format>
struct basic_float16 {
  static constexpr std::string_view name = Format::name;
  static constexpr bool integer = false;

  [[nodiscard]] static result<void> check(std::size_t) { return {}; }
  /// 32 bytes a component, and what is missing to a multiple of 64.
  [[nodiscard]] static constexpr std::size_t key_block_bytes(std::size_t head_dim) noexcept {
    return (head_dim * block_tokens * sizeof(std::uint16_t) + 63) / 64 * 64;
  }
  [[nodiscard]] static constexpr std::size_t value_block_bytes(std::size_t head_dim) noexcept {
    return key_block_bytes(head_dim);
  }

  static void write_key(std::byte* block, std::size_t row, std::span<const float> in) noexcept {
    std::uint16_t* const keys = halves(block) + row;
    for (std::size_t c = 0; c < in.size(); c += detail::vec_width) {
      const std::size_t count = std::min(detail::vec_width, in.size() - c);
      const detail::vec_half coded = encode(in.data() + c, count);
      for (std::size_t i = 0; i < count; ++i) keys[(c + i) * block_tokens] = coded[i];
    }
  }
  static void write_value(std::byte* block, std::size_t row, std::span<const float> in) noexcept {
    std::uint16_t* const values = halves(block) + row * in.size();
    for (std::size_t c = 0; c < in.size(); c += detail::vec_width) {
      const std::size_t count = std::min(detail::vec_width, in.size() - c);
      const detail::vec_half coded = encode(in.data() + c, count);
      std::memcpy(values + c, &coded, count * sizeof(std::uint16_t));
    }
  }
  static void read_key(const std::byte* block, std::size_t row, std::span<float> out) noexcept {
    const std::uint16_t* const keys = halves(block);
    for (std::size_t c = 0; c < out.size(); ++c) out[c] = Format::decode(keys[c * block_tokens + row]);
  }
  static void read_value(const std::byte* block, std::size_t row, std::span<float> out) noexcept {
    const std::uint16_t* const values = halves(block) + row * out.size();
    for (std::size_t c = 0; c < out.size(); ++c) out[c] = Format::decode(values[c]);
  }
  static void move_key(const std::byte* from, std::size_t from_row, std::byte* to, std::size_t to_row,
                       std::size_t head_dim) noexcept {
    const std::uint16_t* const source = halves(from);
    std::uint16_t* const target = halves(to);
    for (std::size_t c = 0; c < head_dim; ++c) target[c * block_tokens + to_row] = source[c * block_tokens + from_row];
  }
  static void move_value(const std::byte* from, std::size_t from_row, std::byte* to, std::size_t to_row,
                         std::size_t head_dim) noexcept {
    const std::uint16_t* const source = halves(from) + from_row * head_dim;
    std::copy(source, source + head_dim, halves(to) + to_row * head_dim);
  }
  [[nodiscard]] static float dot_key(const std::byte* block, std::size_t row, std::span<const float> query) noexcept {
    const std::uint16_t* const keys = halves(block);
    float sum = 0.0F;
    for (std::size_t c = 0; c < query.size(); ++c) sum += query[c] * Format::decode(keys[c * block_tokens + row]);
    return sum;
  }
  [[nodiscard]] static const float* keys(const std::byte* block, std::size_t head_dim, float* scratch) noexcept {
    for (std::size_t c = 0; c < head_dim; ++c) {
      for (std::size_t part = 0; part < block_tokens / detail::vec_width; ++part) {
        detail::store(scratch + c * block_tokens + part * detail::vec_width, key_vector(block, c, part));
      }
    }
    return scratch;
  }
  [[nodiscard]] static const float* values(const std::byte* block, std::size_t head_dim, float* scratch) noexcept {
    // 16 rows end where a vector ends.
    for (std::size_t i = 0; i < block_tokens * head_dim; i += detail::vec_width) {
      detail::store(scratch + i, Format::widen(detail::load<detail::vec_half>(halves(block) + i)));
    }
    return scratch;
  }

  /// A row as an array of 16-bit floats, little-endian.
  [[nodiscard]] static constexpr std::size_t row_bytes(std::size_t head_dim) noexcept {
    return head_dim * sizeof(std::uint16_t);
  }
  static void export_key(const std::byte* block, std::size_t row, std::size_t head_dim, std::byte* out) noexcept {
    for (std::size_t c = 0; c < head_dim; ++c) {
      std::memcpy(out + c * sizeof(std::uint16_t), halves(block) + c * block_tokens + row, sizeof(std::uint16_t));
    }
  }
  static void export_value(const std::byte* block, std::size_t row, std::size_t head_dim, std::byte* out) noexcept {
    std::memcpy(out, halves(block) + row * head_dim, row_bytes(head_dim));
  }
  static void import_key(const std::byte* in, std::byte* block, std::size_t row, std::size_t head_dim) noexcept {
    for (std::size_t c = 0; c < head_dim; ++c) {
      std::memcpy(halves(block) + c * block_tokens + row, in + c * sizeof(std::uint16_t), sizeof(std::uint16_t));
    }
  }
  static void import_value(const std::byte* in, std::byte* block, std::size_t row, std::size_t head_dim) noexcept {
    std::memcpy(halves(block) + row * head_dim, in, row_bytes(head_dim));
  }

  /// Component c of keys part * vec_width, ... of a block.
  [[nodiscard]] static detail::vec key_vector(const std::byte* block, std::size_t c, std::size_t part) noexcept {
    return Format::widen(detail::load<detail::vec_half>(halves(block) + c * block_tokens + part * detail::vec_width));
  }
  /// Components c, ... of a value.
  [[nodiscard]] static detail::vec value_vector(const std::byte* block, std::size_t row, std::size_t head_dim,
                                                std::size_t c) noexcept {
    return Format::widen(detail::load<detail::vec_half>(halves(block) + row * head_dim + c));
  }
  [[nodiscard]] static float value_at(const std::byte* block, std::size_t row, std::size_t head_dim,
                                      std::size_t c) noexcept {
    return Format::decode(halves(block)[row * head_dim + c]);
  }

 private:
  /// The first `count` elements of a vector in the format.
  [[nodiscard]] static detail::vec_half encode(const float* in, std::size_t count) noexcept {
    if (count == detail::vec_width) return Format::narrow(detail::load(in));
    detail::vec some{};
    std::memcpy(&some, in, count * sizeof(float));
    return Format::narrow(some);
  }
  [[nodiscard]] static std::uint16_t* halves(std::byte* block) noexcept {
    return reinterpret_cast<std::uint16_t*>(block);
  }
  [[nodiscard]] static const std::uint16_t* halves(const std::byte* block) noexcept {
    return reinterpret_cast<const std::uint16_t*>(block);
  }
};

namespace detail {

struct f16_format {
  static constexpr std::string_view name = "f16";
  [[nodiscard]] static float decode(std::uint16_t x) noexcept { return from_f16_bits(x); }
  [[nodiscard]] static vec_half narrow(vec x) noexcept { return narrow_f16(x); }
  [[nodiscard]] static vec widen(vec_half x) noexcept { return widen_f16(x); }
};
struct bf16_format {
  static constexpr std::string_view name = "bf16";
  [[nodiscard]] static float decode(std::uint16_t x) noexcept { return from_bf16_bits(x); }
  [[nodiscard]] static vec_half narrow(vec x) noexcept { return narrow_bf16(x); }
  [[nodiscard]] static vec widen(vec_half x) noexcept { return widen_bf16(x); }
};

}  // namespace detail

/// binary16: error up to 2^-11 of the number, or 2^-25 below 2^-14; numbers from 65520 on become infinite.
using f16 = basic_float16<detail::f16_format>;
/// bfloat16: error up to 2^-8 of the number; the range of float.
using bf16 = basic_float16<detail::bf16_format>;

static_assert(codec<f16> && codec<bf16>);

KVKEEP_NAMESPACE_END

#endif
