// more_reads: what queries read that a policy retrieves.
#ifndef KVKEEP_CACHE_MORE_READS_HPP
#define KVKEEP_CACHE_MORE_READS_HPP

#include <cstddef>
#include <span>

#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// What queries read besides their views, at one distance and raw: spans [queries][choosers], by block; choosers is 1, or the
/// number of kv heads or of query heads, for which what is read differs.
struct more_reads {
  const std::span<const key_span>* spans = nullptr;  // none
  std::size_t choosers = 1;
  position distance = 0;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
