// middle_top_k: of the keys that have left the window, the few that a query head would attend to most.
//
// Source: Han et al., "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models", NAACL 2024, arXiv
// 2308.16137, section 4.2; code Glaciohound/LM-Infinite at a0ce64c.
#ifndef KVKEEP_POLICY_SELECT_MIDDLE_TOP_K_HPP
#define KVKEEP_POLICY_SELECT_MIDDLE_TOP_K_HPP

#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sinks.hpp"
#include "kvkeep/policy/select/layer_range.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Which queries of a step read middle keys.
enum class step_rows : std::uint8_t {
  every,  ///< all: chunk-invariant
  last,   ///< the last of each step alone (the authors' code)
};

namespace detail {

/// An error where the rules beside a rule that reads dropped keys are of other sizes than one another.
template <class Rules>
[[nodiscard]] result<void> check_beside_dropped_keys(const Rules& rules, std::string_view rule) {
  const auto [first, newest] = rule_tuple<keep<sinks, recent>>::of(rules.retain);
  if (rules.distance.window != newest.count) {
    return bad_argument("beyond.window", rules.distance.window, fmt::format("recent.count = {}", newest.count));
  }
  const schedule acts = rules.when.schedule();
  if (acts.when == schedule::act::each_token && acts.together == 1) return {};
  return make_error(errc::unsupported, "when", fmt::format("{} goes with each_token only", rule));
}

}  // namespace detail

/// Every query reads, besides what retain leaves to it, for each query head the `count` keys with the largest score at distance
/// `at` of all that were dropped, and reads them at that distance. Where there are fewer than `count`, it reads none of them.
/// Ties: the older. Goes with keep{sinks, recent} and beyond of the same window, and with each_token. Exact; cost: every stored key of
/// the layer once a query and query head. Memory is taken for max_tokens tokens.
struct middle_top_k {
  std::size_t count = 5;        ///< keys of a query head, >= 1; published 5
  std::size_t at = 2048;        ///< tokens; published 2048, half the trained length of Llama 2
  layer_range layers{4, 1000};  ///< that read middle keys; nothing is kept for the others; published 4, 1000
  std::size_t max_tokens = 0;   ///< of the stream, >= 1; no default: memory is taken for all of them
  step_rows rows = step_rows::every;

  static constexpr bool has_units = true;
  template <class Retain>
  static constexpr bool goes_with = std::is_same_v<Retain, keep<sinks, recent>>;
  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("count", count, 1); !ok) return ok;
    if (auto ok = detail::check_tokens("at", at, 0); !ok) return ok;
    if (rows != step_rows::every && rows != step_rows::last) {
      return detail::bad_argument("rows", static_cast<int>(rows), "every or last");
    }
    if (auto ok = detail::check_tokens("max_tokens", max_tokens, 1); !ok) return ok;
    if (count <= max_tokens) return {};
    return detail::bad_argument("count", count, fmt::format("1 .. max_tokens = {}", max_tokens));
  }
  /// The largest distance at which it reads.
  [[nodiscard]] constexpr std::size_t farthest() const noexcept { return at; }
  /// An error where the rules beside it are of other sizes.
  template <class Rules>
  [[nodiscard]] static result<void> check_rules(const Rules& rules) {
    return detail::check_beside_dropped_keys(rules, "middle_top_k");
  }
};

KVKEEP_NAMESPACE_END

#endif
