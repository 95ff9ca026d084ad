// keep_all{max_tokens}: nobody leaves; a stream that grows beyond max_tokens is an error.
#ifndef KVKEEP_POLICY_RETAIN_KEEP_ALL_HPP
#define KVKEEP_POLICY_RETAIN_KEEP_ALL_HPP

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Keeps every token. Stands alone: in a union nothing would be left to the other rules.
struct keep_all {
  std::size_t max_tokens = 0;  ///< tokens, >= 1; memory is taken for all of them

  static constexpr bool pays = false;
  static constexpr bool leaves_runs = true;
  static constexpr bool refuses = true;  ///< a full cache is an error at begin, not an eviction
  [[nodiscard]] constexpr std::size_t share() const noexcept { return max_tokens; }
  [[nodiscard]] constexpr position oldest() const noexcept { return static_cast<position>(max_tokens); }
  [[nodiscard]] result<void> check() const {
    if (max_tokens >= 1) return {};
    return detail::bad_argument("max_tokens", max_tokens, "1 .. 2147483647");
  }
};

KVKEEP_NAMESPACE_END

#endif
