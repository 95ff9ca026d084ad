// evenly_spaced{count}: tokens at equal steps of the stream, the step doubled whenever there is no more room.
//
// The streaming form of "every n-th token" that kvkeep defines. The spacing in the papers, n = history / count, changes with
// every token: what is read at one length is not among what was read before, so no cache can evict that way. Here spacings
// are powers of two, and the tokens of the next spacing are always among those kept.
#ifndef KVKEEP_POLICY_RETAIN_EVENLY_SPACED_HPP
#define KVKEEP_POLICY_RETAIN_EVENLY_SPACED_HPP

#include <bit>
#include <cstdint>

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Keeps, of the tokens that older rules left, all whose stream number is a multiple of 2^k, for the smallest k that leaves
/// room for all of them, and in the places left the oldest multiples of 2^(k-1). So it keeps at least one of any 2^k of these
/// tokens in a row, and 2^k is about their number over `count`, rounded up to a power of two. What erase() or reserve() takes
/// away does not come back; its places go to tokens that come later.
struct evenly_spaced {
  std::size_t count = 256;  ///< tokens

  [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
  /// The power of two in the stream number: 0 for odd numbers, 3 for 8 and 24, 64 for the first token.
  [[nodiscard]] constexpr double rank(const held_token& t) const noexcept {
    return static_cast<double>(std::countr_zero(static_cast<std::uint64_t>(t.number)));
  }
};

KVKEEP_NAMESPACE_END

#endif
