// top{measure, count}: the tokens that an importance measure ranks highest.
//
// The measure says what evidence counts and how it fades. By surprisal: Yao, Li, Zhao, "SirLLM: Streaming Infinite Retentive
// LLM", ACL 2024, arXiv 2405.12528, section 3.
#ifndef KVKEEP_POLICY_RETAIN_TOP_HPP
#define KVKEEP_POLICY_RETAIN_TOP_HPP

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// A number >= 0 that fades as long as a stream lasts and does not become 0 by it: value * 2^(-512 shift). Numbers from 2^-500
/// on have shift 0 and are those of the plain product, smaller ones a value from 2^-500 up to 2^12.
struct fading_value {
  double value = 0.0;
  std::int64_t shift = 0;

  /// This times a factor, greater than 0, up to 1.
  [[nodiscard]] fading_value times(double factor) const noexcept {
    fading_value out = *this;
    if (factor == 1.0 || value == 0.0 || std::isinf(value)) return out;
    for (; factor < 0x1p-500; ++out.shift) factor *= 0x1p512;
    out.value *= factor;
    for (; out.value < 0x1p-500; ++out.shift) out.value *= 0x1p512;
    for (; out.shift > 0 && out.value >= 0x1p12; --out.shift) out.value *= 0x1p-512;
    return out;
  }
  /// A number in the same order: the number itself from 2^-500 on, its exponent and fraction below, so that what differs in
  /// the first 12 digits differs here.
  [[nodiscard]] double rank() const noexcept {
    if (value == 0.0) return -std::numeric_limits<double>::infinity();
    if (shift == 0) return value;
    int exponent = 0;
    const double fraction = std::frexp(value, &exponent);
    return static_cast<double>(exponent - 512 * shift) + 2.0 * fraction;
  }
};

}  // namespace detail

/// Keeps, of the tokens that earlier rules left, the `count` that surprised most. A token's value is what commit is told of
/// it, times `decay` for every end_turn() since, however many there were; ties: the older stays. Infinity ranks first and
/// stays infinity. A token that is being processed has no value yet and ranks before all that have. One decision for the
/// whole sequence.
/// Cost of a decision: O(tokens held), without sorting: a scan that notes the lowest, where one token leaves; a partition
/// where several do. Memory: 16 bytes a slot.
template <class Measure = surprisal>
struct top {
  static_assert(std::is_same_v<Measure, surprisal>, "kvkeep: top{measure, count} ranks by kvkeep::surprisal");

  Measure by{};              ///< what is measured, and its decay
  std::size_t count = 1000;  ///< tokens; published default 1000

  using evidence = Measure;
  using column = detail::fading_value;
  [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
  [[nodiscard]] constexpr column admit(float e) const noexcept { return {static_cast<double>(e), 0}; }
  [[nodiscard]] double rank(const held_token&, const column& value) const noexcept { return value.rank(); }
  [[nodiscard]] column end_turn(const column& value) const noexcept { return value.times(by.decay); }
  [[nodiscard]] result<void> check() const {
    if (by.decay > 0.0 && by.decay <= 1.0) return {};
    return detail::bad_argument("surprisal.decay", by.decay, "greater than 0, up to 1");
  }
};
template <class Measure>
top(Measure, std::size_t) -> top<Measure>;

KVKEEP_NAMESPACE_END

#endif
