// cache_bytes: what a cache takes, told before it is built.
#ifndef KVKEEP_CACHE_CACHE_BYTES_HPP
#define KVKEEP_CACHE_CACHE_BYTES_HPP

#include <cstddef>
#include <cstdint>

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Bytes of a cache. All are allocated at construction and none later, but for those of an index of dropped keys, which is part of
/// `memory`: it takes about what is told here when it is full.
struct cache_bytes {
  std::size_t keys = 0;     ///< stored keys
  std::size_t values = 0;   ///< stored values
  std::size_t tables = 0;   ///< positions, slots, plans, columns
  std::size_t memory = 0;   ///< of policies that retrieve units: representatives, attention sums, what was looked up
  std::size_t staging = 0;  ///< of units that are on their way to or from a file
  std::size_t scratch = 0;  ///< angles and the kernel's working memory
  std::size_t total = 0;    ///< their sum
  std::uint64_t file = 0;   ///< of the file of memory units, when it is full; not RAM, and not in the sum
};

KVKEEP_NAMESPACE_END

#endif
