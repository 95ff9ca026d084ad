// sinks{S}: the first S tokens of the stream, for ever.
//
// Attention sinks: models put the attention they do not need on the first tokens; dropping those breaks them.
// Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR 2024, arXiv 2309.17453.
#ifndef KVKEEP_POLICY_RETAIN_SINKS_HPP
#define KVKEEP_POLICY_RETAIN_SINKS_HPP

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Keeps the tokens with stream number < count. A sink that is erased is not replaced.
struct sinks {
  std::size_t count = 4;  ///< tokens; published default 4

  static constexpr bool pays = false;
  static constexpr bool leaves_runs = true;
  [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
  [[nodiscard]] constexpr bool claims(const held_token& t) const noexcept {
    return t.number < static_cast<position>(count);
  }
  /// The first so many tokens may be kept at any age.
  [[nodiscard]] constexpr std::size_t unbounded_first() const noexcept { return count; }
};

/// Keeps the first `count` tokens that are held, whatever their positions: the authors' cache[0:start_size], which makes
/// sinks of later tokens when the first ones were erased.
struct first_held {
  std::size_t count = 4;  ///< tokens

  static constexpr bool pays = false;
  static constexpr bool leaves_runs = true;
  [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
  [[nodiscard]] constexpr bool claims(const held_token& t) const noexcept { return t.index < count; }
  [[nodiscard]] constexpr std::size_t unbounded_first() const noexcept { return count; }
};

KVKEEP_NAMESPACE_END

#endif
