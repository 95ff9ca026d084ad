// pattern_parts: how the two halves of a sparse attention pattern are shared out over layers and heads; and what retain rules
// ask of a pattern.
//
// A pattern is a select rule that positions alone decide: A(i), the keys that query i reads. What the sparse patterns of
// Child et al. read has two parts, A1 and A2; every query reaches every token in two steps through both. Each combination
// below is one of theirs (arXiv 1904.10509, section 5.1).
//
// All patterns count from stream position 0, whatever first_position is: the blocks and strides are those of positions.
#ifndef KVKEEP_POLICY_SELECT_PATTERN_PARTS_HPP
#define KVKEEP_POLICY_SELECT_PATTERN_PARTS_HPP

#include <cstddef>
#include <limits>

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Who reads which part of a pattern. "Heads" are kv heads: query heads that share one read alike.
enum class pattern_parts : std::uint8_t {
  merged,    ///< every head of every layer: both, as a set
  by_layer,  ///< layers 0, 2, 4 ...: A1; layers 1, 3, 5 ...: A2
  by_head,   ///< kv heads 0, 2, 4 ... of every layer: A1; 1, 3, 5 ...: A2
};

/// What queries still to come read of the tokens that have come.
enum class pattern_need : std::uint8_t {
  bounded,     ///< so many tokens, however long the stream is
  growing,     ///< more and more, but not all
  everything,  ///< every token, for ever: none can be evicted
};

/// A position that no stream reaches: the last query that reads a token which is read for ever.
inline constexpr position read_for_ever = (std::numeric_limits<position>::max)();

namespace detail {

/// What one layer and kv head reads of a pattern of two parts.
enum class pattern_half : std::uint8_t { both, first, second };

[[nodiscard]] constexpr pattern_half half_of(pattern_parts parts, const unit_place& place) noexcept {
  if (parts == pattern_parts::merged) return pattern_half::both;
  const std::size_t turn = parts == pattern_parts::by_layer ? place.layer : place.kv_head;
  return turn % 2 == 0 ? pattern_half::first : pattern_half::second;
}
/// An error where a value is none of the named ones.
[[nodiscard]] inline result<void> check_parts(pattern_parts parts) {
  if (parts <= pattern_parts::by_head) return {};
  return bad_argument("parts", static_cast<int>(parts), "merged, by_layer or by_head");
}
/// An error where a model has too few layers or kv heads for every part, in `groups` forms of the second, to be read.
[[nodiscard]] inline result<void> check_parts_of(pattern_parts parts, std::size_t groups, const model_shape& shape) {
  if (parts == pattern_parts::by_layer && shape.layers < 2) {
    return bad_argument("layers", shape.layers, ">= 2 with parts = by_layer: A2 is read by the second layer");
  }
  const std::size_t least = parts == pattern_parts::by_head ? 2 * groups : groups;
  if (shape.kv_heads >= least) return {};
  return bad_argument("kv_heads", shape.kv_heads,
                      parts == pattern_parts::by_head
                          ? fmt::format(">= {} with parts = by_head: half of them read A2", least)
                          : fmt::format(">= sub_blocks = {}", least));
}

}  // namespace detail

KVKEEP_NAMESPACE_END

#endif
