// more_reads: what queries read that a policy retrieves.
#ifndef KVKEEP_CACHE_MORE_READS_HPP
#define KVKEEP_CACHE_MORE_READS_HPP

#include <cstddef>
#include <span>

#include "kvkeep/attention/key_span.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// What queries read besides their views, raw: spans [queries][choosers], their angles distances; those of one distance stand
/// together, by block. choosers is 1, or the number of kv heads or of query heads, for which what is read differs.
struct more_reads {
  const std::span<const key_span>* spans = nullptr;  // none
  std::size_t choosers = 1;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
