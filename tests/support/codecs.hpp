// The codecs that tests run caches with, and what a row becomes in a cache that stores it in them.
#ifndef KVKEEP_TESTS_SUPPORT_CODECS_HPP
#define KVKEEP_TESTS_SUPPORT_CODECS_HPP

#include <gtest/gtest.h>

#include "rows.hpp"

namespace kvkeep_test {

/// How a cache stores keys and values.
template <class KeyCodec, class ValueCodec>
struct stored_as {
  using key = KeyCodec;
  using value = ValueCodec;
  /// A head_dim that both codecs allow.
  static constexpr std::size_t head_dim = KeyCodec::integer || ValueCodec::integer ? 32 : 8;
  /// What outputs may differ by from the reference on the decoded rows.
  static constexpr double tolerance = 1e-5;
};

/// Codecs that every policy is tested with.
using all_codecs = testing::Types<stored_as<kvkeep::f32, kvkeep::f32>>;
/// Codecs that some policies are tested with.
using more_codecs = testing::Types<stored_as<kvkeep::f16, kvkeep::f16>, stored_as<kvkeep::bf16, kvkeep::f32>>;

/// The bytes of a row in a codec.
template <class Codec>
std::vector<std::byte> encoded_key(std::span<const float> row) {
  std::vector<std::byte> block(Codec::key_block_bytes(row.size()));
  std::vector<std::byte> bytes(Codec::row_bytes(row.size()));
  Codec::write_key(block.data(), 6, row);
  Codec::export_key(block.data(), 6, row.size(), bytes.data());
  return bytes;
}
template <class Codec>
std::vector<std::byte> encoded_value(std::span<const float> row) {
  std::vector<std::byte> block(Codec::value_block_bytes(row.size()));
  std::vector<std::byte> bytes(Codec::row_bytes(row.size()));
  Codec::write_value(block.data(), 9, row);
  Codec::export_value(block.data(), 9, row.size(), bytes.data());
  return bytes;
}

/// The row in place becomes what the codec makes of it.
template <class Codec>
void code(std::span<float> row) {
  std::vector<std::byte> block(Codec::value_block_bytes(row.size()));
  Codec::write_value(block.data(), 0, row);
  Codec::read_value(block.data(), 0, row);
}

/// Turns a row by the angles of a position, as a cache does.
inline void turn(const kvkeep::rope& r, kvkeep::position at, std::span<float> row) {
  const auto frequencies = kvkeep::try_rope_frequencies(r, row.size(), r.length);
  const std::size_t pairs = frequencies->inverse.size();
  std::vector<double> cosine(pairs);
  std::vector<double> sine(pairs);
  kvkeep::fill_angles(at, frequencies->inverse, cosine, sine);
  kvkeep::rotate_row(r.layout, cosine, sine, 1.0, row, row.data());
}

/// What attention is computed from where a cache with this encoding stores the token at `at` in Codecs: a key before RoPE
/// whose rotation is the decoded row, and the decoded value. `raw`: whether the key is stored before RoPE.
template <class Codecs>
void as_attended(const kvkeep::position_encoding& positions, bool raw, kvkeep::position at, std::span<float> key,
                 std::span<float> value) {
  const kvkeep::rope* const r = std::get_if<kvkeep::rope>(&positions);
  const bool turned = r != nullptr && !raw;
  if (turned) turn(*r, at, key);
  code<typename Codecs::key>(key);
  if (turned) turn(*r, -at, key);
  code<typename Codecs::value>(value);
}

}  // namespace kvkeep_test

#endif
