// cold_codec: codecs of keys and values that are chosen at run time, for rows that lie in a file.
#ifndef KVKEEP_CODEC_COLD_CODEC_HPP
#define KVKEEP_CODEC_COLD_CODEC_HPP

#include <cstddef>
#include <span>
#include <string_view>

#include "kvkeep/codec/codec.hpp"

KVKEEP_NAMESPACE_BEGIN

/// How rows are stored where they are not computed with, e.g. cold_codec::of<int8>(). By default as the cache stores them.
class cold_codec {
 public:
  cold_codec() = default;
  template <codec KeyCodec, codec ValueCodec = KeyCodec>
  [[nodiscard]] static cold_codec of() noexcept {
    static constexpr functions table{KeyCodec::name,
                                     ValueCodec::name,
                                     &check_both<KeyCodec, ValueCodec>,
                                     &KeyCodec::key_block_bytes,
                                     &ValueCodec::value_block_bytes,
                                     &KeyCodec::write_key,
                                     &ValueCodec::write_value,
                                     &KeyCodec::read_key,
                                     &ValueCodec::read_value};
    cold_codec made;
    made.functions_ = &table;
    return made;
  }

  /// Whether it differs from the cache's by being chosen at all.
  [[nodiscard]] explicit operator bool() const noexcept { return functions_ != nullptr; }

  // Those of a codec; there must be one.

  [[nodiscard]] std::string_view key_name() const noexcept { return functions_->key_name; }
  [[nodiscard]] std::string_view value_name() const noexcept { return functions_->value_name; }
  [[nodiscard]] result<void> check(std::size_t head_dim) const { return functions_->check(head_dim); }
  [[nodiscard]] std::size_t key_block_bytes(std::size_t head_dim) const noexcept {
    return functions_->key_block_bytes(head_dim);
  }
  [[nodiscard]] std::size_t value_block_bytes(std::size_t head_dim) const noexcept {
    return functions_->value_block_bytes(head_dim);
  }
  void write_key(std::byte* block, std::size_t row, std::span<const float> in) const noexcept {
    functions_->write_key(block, row, in);
  }
  void write_value(std::byte* block, std::size_t row, std::span<const float> in) const noexcept {
    functions_->write_value(block, row, in);
  }
  void read_key(const std::byte* block, std::size_t row, std::span<float> out) const noexcept {
    functions_->read_key(block, row, out);
  }
  void read_value(const std::byte* block, std::size_t row, std::span<float> out) const noexcept {
    functions_->read_value(block, row, out);
  }

 private:
  struct functions {
    std::string_view key_name;
    std::string_view value_name;
    result<void> (*check)(std::size_t);
    std::size_t (*key_block_bytes)(std::size_t) noexcept;
    std::size_t (*value_block_bytes)(std::size_t) noexcept;
    void (*write_key)(std::byte*, std::size_t, std::span<const float>) noexcept;
    void (*write_value)(std::byte*, std::size_t, std::span<const float>) noexcept;
    void (*read_key)(const std::byte*, std::size_t, std::span<float>) noexcept;
    void (*read_value)(const std::byte*, std::size_t, std::span<float>) noexcept;
  };
  template <class KeyCodec, class ValueCodec>
  [[nodiscard]] static result<void> check_both(std::size_t head_dim) {
    if (auto ok = KeyCodec::check(head_dim); !ok) return ok;
    return ValueCodec::check(head_dim);
  }

  const functions* functions_ = nullptr;
};

KVKEEP_NAMESPACE_END

#endif
