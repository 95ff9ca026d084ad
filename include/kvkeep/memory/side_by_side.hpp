// side_by_side: a scan in four stretches at once.
//
// Stretches lie in pages of their own, which hardware prefetchers follow side by side, and their sums do not wait for one another.
#ifndef KVKEEP_MEMORY_SIDE_BY_SIDE_HPP
#define KVKEEP_MEMORY_SIDE_BY_SIDE_HPP

#include <algorithm>
#include <array>
#include <cstddef>

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::size_t stretches = 4;
/// One place of each stretch.
using stretch_places = std::array<std::size_t, stretches>;

/// take(places) until every place 0 .. count - 1 was among them; the last more than once where stretches are not equal.
template <class Take>
void side_by_side(std::size_t count, const Take& take) {
  stretch_places at{};
  const std::size_t stretch = (count + stretches - 1) / stretches;
  for (std::size_t i = 0; i < stretch; ++i) {
    for (std::size_t j = 0; j < stretches; ++j) at[j] = (std::min)(j * stretch + i, count - 1);
    take(at);
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
