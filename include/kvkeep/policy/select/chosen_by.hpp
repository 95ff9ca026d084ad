// chosen_by: who chooses what is read of a memory.
#ifndef KVKEEP_POLICY_SELECT_CHOSEN_BY_HPP
#define KVKEEP_POLICY_SELECT_CHOSEN_BY_HPP

#include <cstdint>

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN

enum class chosen_by : std::uint8_t {
  layer,       ///< all heads of a layer together, by the sum of their scores
  kv_head,     ///< the query heads of each kv head together
  query_head,  ///< each query head; reads what other heads of its kv head do not
};

KVKEEP_NAMESPACE_END

#endif
