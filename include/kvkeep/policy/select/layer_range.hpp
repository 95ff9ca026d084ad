// layer_range: the layers of a model in which a select rule acts.
#ifndef KVKEEP_POLICY_SELECT_LAYER_RANGE_HPP
#define KVKEEP_POLICY_SELECT_LAYER_RANGE_HPP

#include <algorithm>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Some layers of a model: first <= layer < last.
struct layer_range {
  std::size_t first = 0;
  std::size_t last = 65536;

  [[nodiscard]] constexpr bool has(std::size_t layer) const noexcept { return layer >= first && layer < last; }
  /// How many of a model's layers are before this one and in the range.
  [[nodiscard]] constexpr std::size_t before(std::size_t layer) const noexcept {
    return (std::min)((std::max)(layer, first), (std::max)(first, last)) - first;
  }
  /// An error where no layer of a model is in it.
  [[nodiscard]] result<void> check(std::size_t layers) const {
    if (first >= layers)
      return detail::bad_argument("first_layer", first, fmt::format("0 .. {}, the last layer", layers - 1));
    if (last > first) return {};
    return detail::bad_argument("last_layer", last, fmt::format("above first_layer = {}", first));
  }
};

KVKEEP_NAMESPACE_END

#endif
