// Counts of what operator new gave out. Linked from allocations.cpp, which replaces the global operators.
#ifndef KVKEEP_TESTS_SUPPORT_ALLOCATIONS_HPP
#define KVKEEP_TESTS_SUPPORT_ALLOCATIONS_HPP

#include <cstddef>

namespace kvkeep_test {

/// Calls of operator new so far.
std::size_t allocations();
/// Bytes asked of operator new and not given back.
std::size_t bytes_allocated();

}  // namespace kvkeep_test

#endif
