// slot, position, block_id and model_shape: the nouns of the library.
#ifndef KVKEEP_CORE_TYPES_HPP
#define KVKEEP_CORE_TYPES_HPP

#include <cstddef>
#include <cstdint>
#include <limits>

#include "kvkeep/core/result.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A place in the stream of tokens: the first token has `first_position` (usually 0), each later one the next number.
using position = std::int64_t;

/// Streams start and end below this position: every position is exact in a double.
inline constexpr position position_limit = position{1} << 53;

/// A place in storage that holds one token's key and value rows: slot s is row s % 16 of block s / 16.
enum class slot : std::uint32_t {};

/// A block of 16 slots.
enum class block_id : std::uint32_t {};

/// Tokens per block of storage.
inline constexpr std::size_t block_tokens = 16;

[[nodiscard]] constexpr std::size_t index(slot s) noexcept { return static_cast<std::size_t>(s); }
[[nodiscard]] constexpr std::size_t index(block_id b) noexcept { return static_cast<std::size_t>(b); }
[[nodiscard]] constexpr slot to_slot(std::size_t i) noexcept { return static_cast<slot>(i); }
[[nodiscard]] constexpr block_id to_block(std::size_t i) noexcept { return static_cast<block_id>(i); }

/// What a key is to the query that reads it; select rules set it, distance rules may use it.
enum class key_label : std::uint8_t { window, sinks, retrieved };

/// A place where retain decisions differ: a layer and one of its kv heads.
struct unit_place {
  std::size_t layer = 0;
  std::size_t kv_head = 0;
};

/// The attention shape of a model. All counts are at least 1 and query_heads is a multiple of kv_heads.
struct model_shape {
  std::size_t layers = 0;
  std::size_t query_heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;  ///< floats per row of one head, at most 65536

  /// Query heads that share one kv head: query head h reads kv head h / group().
  [[nodiscard]] constexpr std::size_t group() const noexcept { return query_heads / kv_heads; }

  /// An error naming the count that is out of range.
  [[nodiscard]] result<void> check() const {
    constexpr std::size_t most = std::size_t{1} << 16;
    const auto counted = [](std::size_t n) { return n >= 1 && n <= most; };
    if (!counted(layers)) return detail::bad_argument("layers", layers, "1 .. 65536");
    if (!counted(query_heads)) return detail::bad_argument("query_heads", query_heads, "1 .. 65536");
    if (!counted(kv_heads)) return detail::bad_argument("kv_heads", kv_heads, "1 .. 65536");
    if (!counted(head_dim)) return detail::bad_argument("head_dim", head_dim, "1 .. 65536");
    if (query_heads % kv_heads != 0) {
      return detail::bad_argument("query_heads", query_heads, fmt::format("a multiple of kv_heads = {}", kv_heads));
    }
    return {};
  }
};

KVKEEP_NAMESPACE_END

#endif
