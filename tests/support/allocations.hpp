// Counts of what operator new gave out. Linked from allocations.cpp, which replaces the global operators.
#ifndef KVKEEP_TESTS_SUPPORT_ALLOCATIONS_HPP
#define KVKEEP_TESTS_SUPPORT_ALLOCATIONS_HPP

#include <cstddef>
#include <cstdint>
#include <optional>

namespace kvkeep_test {

/// Calls of operator new so far.
std::size_t allocations();
/// Bytes asked of operator new and not given back.
std::size_t bytes_allocated();
/// Whether what operator new gives out from now on is full of this number, or as it comes.
void fill_new_memory(std::optional<std::uint32_t> with);

}  // namespace kvkeep_test

#endif
