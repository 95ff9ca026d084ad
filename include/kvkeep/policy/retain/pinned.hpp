// pinned{first, last}: a range of the stream, for ever (a system prompt, an instruction).
#ifndef KVKEEP_POLICY_RETAIN_PINNED_HPP
#define KVKEEP_POLICY_RETAIN_PINNED_HPP

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Keeps the tokens with stream numbers first <= number < last, counted from the first token of the stream.
struct pinned {
  position first = 0;  ///< >= 0
  position last = 0;   ///< >= first, less than 2^31 tokens after it

  static constexpr bool pays = false;
  static constexpr bool leaves_runs = true;
  [[nodiscard]] constexpr std::size_t share() const noexcept { return static_cast<std::size_t>(last - first); }
  [[nodiscard]] constexpr bool claims(const held_token& t) const noexcept {
    return t.number >= first && t.number < last;
  }
  [[nodiscard]] constexpr std::size_t unbounded_first() const noexcept { return static_cast<std::size_t>(last); }
  [[nodiscard]] result<void> check() const {
    if (first < 0) return detail::bad_argument("pinned.first", first, ">= 0");
    if (last < first) return detail::bad_argument("pinned.last", last, fmt::format(">= first = {}", first));
    return {};
  }
};

KVKEEP_NAMESPACE_END

#endif
