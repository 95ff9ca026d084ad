// arena: one allocation that holds all arrays of an object, measured before it is made.
//
// An object lays its arrays out in one function that takes an arena; run on a measuring arena it tells the bytes, run
// on a real one it gets the memory. So the bytes promised are the bytes used.
#ifndef KVKEEP_CORE_ARENA_HPP
#define KVKEEP_CORE_ARENA_HPP

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

#include "kvkeep/core/config.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Arrays start at multiples of this many bytes: a cache line, and the widest vector register there is.
inline constexpr std::size_t arena_alignment = 64;

/// Large arenas are asked to lie in pages of this many bytes: streams over keys and values run up to half as fast again there
/// as in small pages, at whose ends hardware prefetchers stop.
inline constexpr std::size_t large_page = std::size_t{1} << 21;

/// Tag of constructors that measure.
struct measure_t {};
inline constexpr measure_t measure{};

/// Frees what was allocated with an alignment.
struct free_aligned {
  std::align_val_t alignment{arena_alignment};
  void operator()(std::byte* p) const noexcept { ::operator delete(p, alignment); }
};

class arena {
 public:
  /// An arena that only measures: take() gives null spans.
  arena() = default;
  /// An arena over `bytes` bytes of fresh, uninitialised memory; measuring() if there is not so much.
  explicit arena(std::size_t bytes) {
    const std::align_val_t alignment{bytes >= large_page ? large_page : arena_alignment};
    memory_ = std::unique_ptr<std::byte, free_aligned>(
        static_cast<std::byte*>(::operator new(bytes, alignment, std::nothrow)), free_aligned{alignment});
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    // A wish: where it is refused, small pages do.
    if (memory_ && bytes >= large_page) static_cast<void>(::madvise(memory_.get(), bytes, MADV_HUGEPAGE));
#endif
  }

  /// An array of `count` uninitialised elements, shape [count].
  template <class T>
  std::span<T> take(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>, "an arena holds trivially copyable elements");
    const std::size_t begin = used_;
    used_ += (count * sizeof(T) + arena_alignment - 1) / arena_alignment * arena_alignment;
    if (!memory_) return {};
    return {reinterpret_cast<T*>(memory_.get() + begin), count};
  }

  [[nodiscard]] std::size_t used() const noexcept { return used_; }
  [[nodiscard]] bool measuring() const noexcept { return memory_ == nullptr; }

 private:
  std::unique_ptr<std::byte, free_aligned> memory_;
  std::size_t used_ = 0;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
