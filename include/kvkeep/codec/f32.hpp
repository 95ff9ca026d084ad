// f32: rows stored as the floats they are.
#ifndef KVKEEP_CODEC_F32_HPP
#define KVKEEP_CODEC_F32_HPP

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

#include "kvkeep/codec/codec.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN

/// 32-bit floats: 4 bytes a component, exact.
struct f32 {
  static constexpr std::string_view name = "f32";
  static constexpr bool integer = false;

  [[nodiscard]] static result<void> check(std::size_t) { return {}; }
  /// 64 bytes a component, [head_dim][16].
  [[nodiscard]] static constexpr std::size_t key_block_bytes(std::size_t head_dim) noexcept {
    return head_dim * block_tokens * sizeof(float);
  }
  /// The same for values, [16][head_dim].
  [[nodiscard]] static constexpr std::size_t value_block_bytes(std::size_t head_dim) noexcept {
    return head_dim * block_tokens * sizeof(float);
  }

  static void write_key(std::byte* block, std::size_t row, std::span<const float> in) noexcept {
    float* const keys = floats(block);
    for (std::size_t c = 0; c < in.size(); ++c) keys[c * block_tokens + row] = in[c];
  }
  static void write_value(std::byte* block, std::size_t row, std::span<const float> in) noexcept {
    std::copy(in.begin(), in.end(), floats(block) + row * in.size());
  }
  static void read_key(const std::byte* block, std::size_t row, std::span<float> out) noexcept {
    const float* const keys = floats(block);
    for (std::size_t c = 0; c < out.size(); ++c) out[c] = keys[c * block_tokens + row];
  }
  static void read_value(const std::byte* block, std::size_t row, std::span<float> out) noexcept {
    const float* const values = floats(block) + row * out.size();
    std::copy(values, values + out.size(), out.begin());
  }
  static void move_key(const std::byte* from, std::size_t from_row, std::byte* to, std::size_t to_row,
                       std::size_t head_dim) noexcept {
    const float* const source = floats(from);
    float* const target = floats(to);
    for (std::size_t c = 0; c < head_dim; ++c) target[c * block_tokens + to_row] = source[c * block_tokens + from_row];
  }
  static void move_value(const std::byte* from, std::size_t from_row, std::byte* to, std::size_t to_row,
                         std::size_t head_dim) noexcept {
    const float* const source = floats(from) + from_row * head_dim;
    std::copy(source, source + head_dim, floats(to) + to_row * head_dim);
  }
  [[nodiscard]] static float dot_key(const std::byte* block, std::size_t row, std::span<const float> query) noexcept {
    const float* const keys = floats(block);
    float sum = 0.0F;
    for (std::size_t c = 0; c < query.size(); ++c) sum += query[c] * keys[c * block_tokens + row];
    return sum;
  }
  [[nodiscard]] static const float* keys(const std::byte* block, std::size_t, float*) noexcept { return floats(block); }
  [[nodiscard]] static const float* values(const std::byte* block, std::size_t, float*) noexcept {
    return floats(block);
  }

  /// A row as an array of floats, little-endian.
  [[nodiscard]] static constexpr std::size_t row_bytes(std::size_t head_dim) noexcept {
    return head_dim * sizeof(float);
  }
  static void export_key(const std::byte* block, std::size_t row, std::size_t head_dim, std::byte* out) noexcept {
    for (std::size_t c = 0; c < head_dim; ++c) {
      std::memcpy(out + c * sizeof(float), floats(block) + c * block_tokens + row, sizeof(float));
    }
  }
  static void export_value(const std::byte* block, std::size_t row, std::size_t head_dim, std::byte* out) noexcept {
    std::memcpy(out, floats(block) + row * head_dim, row_bytes(head_dim));
  }
  static void import_key(const std::byte* in, std::byte* block, std::size_t row, std::size_t head_dim) noexcept {
    for (std::size_t c = 0; c < head_dim; ++c) {
      std::memcpy(floats(block) + c * block_tokens + row, in + c * sizeof(float), sizeof(float));
    }
  }
  static void import_value(const std::byte* in, std::byte* block, std::size_t row, std::size_t head_dim) noexcept {
    std::memcpy(floats(block) + row * head_dim, in, row_bytes(head_dim));
  }

  /// Component c of keys part * vec_width, ... of a block.
  [[nodiscard]] static detail::vec key_vector(const std::byte* block, std::size_t c, std::size_t part) noexcept {
    return detail::load(block + (c * block_tokens + part * detail::vec_width) * sizeof(float));
  }
  /// Components c, ... of a value.
  [[nodiscard]] static detail::vec value_vector(const std::byte* block, std::size_t row, std::size_t head_dim,
                                                std::size_t c) noexcept {
    return detail::load(block + (row * head_dim + c) * sizeof(float));
  }
  [[nodiscard]] static float value_at(const std::byte* block, std::size_t row, std::size_t head_dim,
                                      std::size_t c) noexcept {
    return floats(block)[row * head_dim + c];
  }

 private:
  [[nodiscard]] static float* floats(std::byte* block) noexcept { return reinterpret_cast<float*>(block); }
  [[nodiscard]] static const float* floats(const std::byte* block) noexcept {
    return reinterpret_cast<const float*>(block);
  }
};

static_assert(codec<f32>);

KVKEEP_NAMESPACE_END

#endif
