// resident_tokens: the tokens in the slots of a cache within a step, for memories that look for some of them.
#ifndef KVKEEP_MEMORY_RESIDENT_TOKENS_HPP
#define KVKEEP_MEMORY_RESIDENT_TOKENS_HPP

#include <algorithm>
#include <cstddef>
#include <span>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The tokens in the slots of a cache within a step, by position.
struct resident_tokens {
  std::span<const slot> slots;   // oldest first
  std::span<const position> at;  // stream position by slot

  [[nodiscard]] position position_of(std::size_t i) const noexcept { return at[index(slots[i])]; }
  /// The first whose position is not below p.
  [[nodiscard]] std::size_t find(position p) const noexcept {
    const auto found =
        std::lower_bound(slots.begin(), slots.end(), p, [&](slot s, position wanted) { return at[index(s)] < wanted; });
    return static_cast<std::size_t>(found - slots.begin());
  }
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
