// codec: how the rows of 16 tokens of one kv head are stored in a block.
//
// A block of keys is [head_dim][16 tokens] and a block of values [16 tokens][head_dim] in whatever type the codec packs
// them; both start at multiples of 64 bytes. Kernels read whole blocks; single rows are written, moved and read back. A row is
// encoded once, when it is written; from then on its bits are only copied. Layout and bits are the same on every
// instruction set.
#ifndef KVKEEP_CODEC_CODEC_HPP
#define KVKEEP_CODEC_CODEC_HPP

#include <bit>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A storage format.
/// * `name`: how programs print it.
/// * `key_block_bytes(d)`, `value_block_bytes(d)`: bytes of a block, multiples of 64.
/// * `check(d)`: an error where head_dim d does not fit the format.
/// * `write_key / write_value(block, row, in)`: encodes in [d] as the row (0 .. 15) of a block, once.
/// * `read_key / read_value(block, row, out)`: decodes it to out [d].
/// * `move_key / move_value(from, row, to, row, d)`: copies a stored row bit for bit.
/// * `dot_key(block, row, query)`: the dot product of a key with query [d], fp32 accumulation.
/// * `keys(block, d, scratch)`: a block of keys as floats [d][16]; `values(block, d, scratch)`: one of values, [16][d].
///   scratch has room for the result; a codec that stores floats returns the block itself.
/// * `row_bytes(d)`, `export_key / export_value(block, row, d, out)`, `import_key / import_value(in, block, row, d)`: a stored
///   row as ggml's bytes and back, bit for bit.
/// * `integer`: whether kernels find integers with a scale a group of 32 components, or floats. Without that scale:
///   `key_vector(block, c, part)`: component c of keys part * vec_width, ...; `value_vector(block, row, d, c)`: components
///   c, ... of a value; `value_at(block, row, d, c)`: one of them.
template <class C>
concept codec = requires(std::size_t d, std::byte* block, const std::byte* stored, std::size_t row,
                         std::span<const float> in, std::span<float> out, float* scratch, const std::byte* bytes) {
  { C::name } -> std::convertible_to<std::string_view>;
  { C::check(d) } -> std::same_as<result<void>>;
  { C::key_block_bytes(d) } -> std::same_as<std::size_t>;
  { C::value_block_bytes(d) } -> std::same_as<std::size_t>;
  { C::write_key(block, row, in) } -> std::same_as<void>;
  { C::write_value(block, row, in) } -> std::same_as<void>;
  { C::read_key(stored, row, out) } -> std::same_as<void>;
  { C::read_value(stored, row, out) } -> std::same_as<void>;
  { C::move_key(stored, row, block, row, d) } -> std::same_as<void>;
  { C::move_value(stored, row, block, row, d) } -> std::same_as<void>;
  { C::dot_key(stored, row, in) } -> std::same_as<float>;
  { C::keys(stored, d, scratch) } -> std::same_as<const float*>;
  { C::values(stored, d, scratch) } -> std::same_as<const float*>;
  { C::row_bytes(d) } -> std::same_as<std::size_t>;
  { C::export_key(stored, row, d, block) } -> std::same_as<void>;
  { C::export_value(stored, row, d, block) } -> std::same_as<void>;
  { C::import_key(bytes, block, row, d) } -> std::same_as<void>;
  { C::import_value(bytes, block, row, d) } -> std::same_as<void>;
  { C::integer } -> std::convertible_to<bool>;
};

static_assert(std::endian::native == std::endian::little,
              "kvkeep: rows are stored and exported as little-endian machines have them");

KVKEEP_NAMESPACE_END

#endif
