// unfiled: the tokens that are in no memory unit yet: the window, and what has left it and does not fill a unit.
//
// Source: Xiao et al., "InfLLM: Training-Free Long-Context Extrapolation for LLMs with an Efficient Context Memory", NeurIPS
// 2024, arXiv 2402.04617, section 3.2; code thunlp/InfLLM at 12b7079.
#ifndef KVKEEP_POLICY_RETAIN_UNFILED_HPP
#define KVKEEP_POLICY_RETAIN_UNFILED_HPP

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// How a stream is divided: `sinks` tokens, then units of `unit` tokens each, of which one is filed when the `window` newest
/// tokens have left it behind.
struct unit_geometry {
  std::size_t sinks = 128;    ///< tokens
  std::size_t window = 4096;  ///< tokens, >= 1
  std::size_t unit = 128;     ///< tokens, >= 1

  /// Units that are complete and behind the window once a stream has so many tokens.
  [[nodiscard]] constexpr std::size_t complete(std::size_t tokens) const noexcept {
    return tokens < sinks + window ? 0 : (tokens - sinks - window) / unit;
  }
  /// The stream number of the first token of a unit.
  [[nodiscard]] constexpr std::size_t first_of(std::size_t number) const noexcept { return sinks + number * unit; }
};

/// Keeps what is in no memory unit yet, sinks apart: between `window` and window + unit - 1 tokens. A query finds the units
/// filed that were complete before it came; with each_block, before the first of the queries that share a decision came.
struct unfiled {
  unit_geometry geometry{};

  static constexpr bool pays = false;
  static constexpr bool leaves_runs = true;
  using state = position;  // tokens of the stream so far, the one being processed included
  [[nodiscard]] constexpr std::size_t share() const noexcept { return geometry.window + geometry.unit; }
  [[nodiscard]] constexpr state advance(state, const held_token& t) const noexcept { return t.number + 1; }
  [[nodiscard]] constexpr bool claims(const held_token& t, state tokens) const noexcept {
    const std::size_t before = tokens > 0 ? static_cast<std::size_t>(tokens - 1) : 0;
    return t.number >= static_cast<position>(geometry.first_of(geometry.complete(before)));
  }
  [[nodiscard]] constexpr position oldest() const noexcept { return static_cast<position>(share()); }
  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("sinks", geometry.sinks, 0); !ok) return ok;
    if (auto ok = detail::check_tokens("window", geometry.window, 1); !ok) return ok;
    return detail::check_tokens("unit", geometry.unit, 1);
  }
};

KVKEEP_NAMESPACE_END

#endif
