#include "huge_buffer.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace kvkeep_bench {

huge_buffer::huge_buffer(std::size_t floats) : count_(floats) {
  constexpr std::size_t large_page = std::size_t{2} << 20;
  const std::size_t bytes = (floats * sizeof(float) + large_page - 1) / large_page * large_page;
  memory_.reset(static_cast<float*>(std::aligned_alloc(large_page, bytes)));
  if (!memory_) throw std::bad_alloc();
#ifdef __linux__
  madvise(memory_.get(), bytes, MADV_HUGEPAGE);
#endif
  std::memset(memory_.get(), 0, bytes);
}

void huge_buffer::release::operator()(float* memory) const noexcept { std::free(memory); }

}  // namespace kvkeep_bench
