// top{measure, count}: the tokens that an importance measure ranks highest.
//
// The measure says what evidence counts and how it fades. By surprisal: Yao, Li, Zhao, "SirLLM: Streaming Infinite Retentive
// LLM", ACL 2024, arXiv 2405.12528, section 3.
#ifndef KVKEEP_POLICY_RETAIN_TOP_HPP
#define KVKEEP_POLICY_RETAIN_TOP_HPP

#include <type_traits>

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Keeps, of the tokens that earlier rules left, the `count` that surprised most. A token's value is what commit is told of
/// it, times `decay` for every end_turn() since; ties: the older stays. Infinity ranks first and stays infinity. A token that
/// is being processed has no value yet and ranks before all that have. One decision for the whole sequence.
/// Cost of a decision: O(tokens held), without sorting: a scan that notes the lowest, where one token leaves; a partition
/// where several do. Memory: 8 bytes a slot.
template <class Measure = surprisal>
struct top {
  static_assert(std::is_same_v<Measure, surprisal>, "kvkeep: top{measure, count} ranks by kvkeep::surprisal");

  Measure by{};              ///< what is measured, and its decay
  std::size_t count = 1000;  ///< tokens; published default 1000

  using evidence = Measure;
  using column = double;
  [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
  [[nodiscard]] constexpr column admit(float e) const noexcept { return static_cast<double>(e); }
  [[nodiscard]] constexpr double rank(const held_token&, column value) const noexcept { return value; }
  [[nodiscard]] constexpr column end_turn(column value) const noexcept { return value * by.decay; }
  [[nodiscard]] result<void> check() const {
    if (by.decay > 0.0 && by.decay <= 1.0) return {};
    return detail::bad_argument("surprisal.decay", by.decay, "greater than 0, up to 1");
  }
};
template <class Measure>
top(Measure, std::size_t) -> top<Measure>;

KVKEEP_NAMESPACE_END

#endif
