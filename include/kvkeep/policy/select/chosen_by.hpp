// chosen_by: who chooses what is read of a memory.
#ifndef KVKEEP_POLICY_SELECT_CHOSEN_BY_HPP
#define KVKEEP_POLICY_SELECT_CHOSEN_BY_HPP

#include <cstdint>
#include <string>

#include "kvkeep/core/result.hpp"

KVKEEP_NAMESPACE_BEGIN

enum class chosen_by : std::uint8_t {
  layer,       ///< all heads of a layer together, by the sum of their scores
  kv_head,     ///< the query heads of each kv head together
  query_head,  ///< each query head; reads what other heads of its kv head do not
};

namespace detail {

/// An error where a value is not among those that are allowed, of which `names` tells.
[[nodiscard]] inline result<void> check_chooser(chosen_by chooses, bool allowed, std::string_view names) {
  if (allowed) return {};
  const auto value = static_cast<std::size_t>(chooses);
  constexpr std::string_view known[] = {"layer", "kv_head", "query_head"};
  return bad_argument("chooses", value < 3 ? std::string(known[value]) : std::to_string(value), names);
}

}  // namespace detail

KVKEEP_NAMESPACE_END

#endif
