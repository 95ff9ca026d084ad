// key_span and query_view: which stored keys one query reads, and from how far.
#ifndef KVKEEP_ATTENTION_KEY_SPAN_HPP
#define KVKEEP_ATTENTION_KEY_SPAN_HPP

#include <cstdint>
#include <span>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Some slots of one block that share one turned query.
struct key_span {
  position angle = 0;       ///< the query is turned to this position; unused where keys are turned instead
  std::uint32_t block = 0;  ///< block of 16 slots
  std::uint32_t mask = 0;   ///< bit r set: row r of the block is read
  bool raw = false;         ///< the keys are read as they came; otherwise turned to their positions
};

/// What one query reads. Spans of turned keys come first; each kind ascends by angle, and those of one angle by block.
struct query_view {
  std::span<const key_span> spans{};     ///< every slot that is read is in exactly one span
  std::span<const position> distance{};  ///< by slot, [slots]; meaningful where a span reads the slot
  std::size_t keys = 0;                  ///< how many keys are read
};

KVKEEP_NAMESPACE_END

#endif
