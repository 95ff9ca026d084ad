// recent{R}: the R newest tokens that no earlier rule took.
#ifndef KVKEEP_POLICY_RETAIN_RECENT_HPP
#define KVKEEP_POLICY_RETAIN_RECENT_HPP

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Keeps the `count` newest tokens held, the one being processed included.
struct recent {
  std::size_t count = 512;  ///< tokens

  static constexpr bool leaves_runs = true;
  [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
  [[nodiscard]] constexpr position oldest() const noexcept { return static_cast<position>(count); }
};

KVKEEP_NAMESPACE_END

#endif
