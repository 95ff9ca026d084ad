// fixed: the block of tokens that a query stands in, and the last few columns of every block.
//
//   A1(i) = { j <= i : floor(j / block) = floor(i / block) }
//   A2(i) = { j <= i : j mod block >= block - columns }, and i itself
// Source: Child, Gray, Radford, Sutskever, "Generating Long Sequences with Sparse Transformers", 2019, arXiv 1904.10509,
// section 4.3; code openai/sparse_attention.
#ifndef KVKEEP_POLICY_SELECT_FIXED_HPP
#define KVKEEP_POLICY_SELECT_FIXED_HPP

#include <algorithm>

#include "kvkeep/policy/select/pattern_parts.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Query i reads A1, A2 or both. Where heads read sub-blocks of their own, sub-block s is the columns block - columns * (s + 1)
/// .. block - columns * s - 1. The paper's A2 lacks i where that is no summary column; here a query always reads its own key.
/// (The released kernel rounds columns and blocks to tiles of 32; here they are what is asked for.)
/// As a retain rule: a block is freed but for its summary columns as soon as its last token is done with. What stays grows by
/// `columns` a block (merged: of one sub-block). Cost: two divisions a token held and query.
struct fixed {
  std::size_t block = 128;     ///< tokens, >= 1 (l of the paper); published 128 (Enwik8)
  std::size_t columns = 32;    ///< summary columns of a block that a head reads, 1 .. block (c); published 32 (Enwik8)
  std::size_t sub_blocks = 1;  ///< kv head h reads sub-block h mod these, >= 1; columns * sub_blocks <= block
  pattern_parts parts = pattern_parts::merged;

  /// What still_read says where a variant needs everything.
  static constexpr std::string_view everything_because = "fixed with columns = block reads every token of every block";

  /// Merged: the sub-block. Else 0: A1; 1 + s: A2 with sub-block s.
  [[nodiscard]] constexpr std::size_t variants() const noexcept {
    return parts == pattern_parts::merged ? sub_blocks : 1 + sub_blocks;
  }
  [[nodiscard]] constexpr std::size_t variant(const unit_place& place) const noexcept {
    switch (detail::half_of(parts, place)) {
      case detail::pattern_half::first:
        return 0;
      case detail::pattern_half::second:
        break;
      case detail::pattern_half::both:
        return place.kv_head % sub_blocks;
    }
    return 1 + (parts == pattern_parts::by_head ? place.kv_head / 2 : place.kv_head) % sub_blocks;
  }
  [[nodiscard]] constexpr kvkeep::scope scope() const noexcept {
    if (sub_blocks > 1 || parts == pattern_parts::by_head) return kvkeep::scope::kv_head;
    return parts == pattern_parts::by_layer ? kvkeep::scope::layer : kvkeep::scope::sequence;
  }
  [[nodiscard]] constexpr bool reads(std::size_t variant, position query, position key) const noexcept {
    if (query == key) return true;
    const auto length = static_cast<position>(block);
    if (has_block(variant) && query / length == key / length) return true;
    return has_columns(variant) && summarises(variant, key);
  }

  // What still_read asks.

  [[nodiscard]] constexpr pattern_need needs(std::size_t variant) const noexcept {
    if (!has_columns(variant)) return pattern_need::bounded;
    return columns < block ? pattern_need::growing : pattern_need::everything;
  }
  /// The newest query that reads a key.
  [[nodiscard]] constexpr position last_reader(std::size_t variant, position key) const noexcept {
    if (has_columns(variant) && summarises(variant, key)) return read_for_ever;
    const auto length = static_cast<position>(block);
    return has_block(variant) ? key - key % length + length - 1 : key;
  }
  /// Tokens that are needed at once in a stream of so many, wherever it begins: its newest block and the summary columns of the
  /// blocks before, or all summary columns and the query.
  [[nodiscard]] constexpr std::size_t most_needed(std::size_t variant, std::size_t tokens) const noexcept {
    const std::size_t whole = (std::min)(has_block(variant) ? block : std::size_t{1}, tokens);
    if (!has_columns(variant)) return whole;
    const std::size_t before = tokens - whole;
    return whole + before / block * columns + (std::min)(before % block, columns);
  }

  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("block", block, 1); !ok) return ok;
    if (columns < 1 || columns > block) {
      return detail::bad_argument("columns", columns, fmt::format("1 .. block = {}", block));
    }
    if (sub_blocks < 1 || sub_blocks > block / columns) {
      return detail::bad_argument("sub_blocks", sub_blocks, fmt::format("1 .. block / columns = {}", block / columns));
    }
    return detail::check_parts(parts);
  }
  [[nodiscard]] result<void> check_shape(const model_shape& shape) const {
    return detail::check_parts_of(parts, sub_blocks, shape);
  }

 private:
  [[nodiscard]] constexpr bool has_block(std::size_t variant) const noexcept {
    return variant == 0 || parts == pattern_parts::merged;
  }
  [[nodiscard]] constexpr bool has_columns(std::size_t variant) const noexcept {
    return variant > 0 || parts == pattern_parts::merged;
  }
  /// Whether a key is in the summary columns of a variant that reads some.
  [[nodiscard]] constexpr bool summarises(std::size_t variant, position key) const noexcept {
    const std::size_t sub_block = parts == pattern_parts::merged ? variant : variant - 1;
    const auto end = static_cast<position>(block - columns * sub_block);
    const position column = key % static_cast<position>(block);
    return column < end && column >= end - static_cast<position>(columns);
  }
};

KVKEEP_NAMESPACE_END

#endif
