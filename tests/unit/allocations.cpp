// Global operator new and delete that count. Every block is preceded by its size.
#include "../support/allocations.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> calls{0};
std::atomic<std::size_t> live{0};
std::atomic<std::uint64_t> filling{0};  // the lower half, where any bit of the upper is set

/// Room for the size in front of a block, and the strictest alignment the tests ask for.
constexpr std::size_t header = 64;

void* counted(std::size_t size) {
  void* const raw = std::aligned_alloc(header, (size + 2 * header - 1) / header * header);
  if (raw == nullptr) return nullptr;
  ++calls;
  live += size;
  *static_cast<std::size_t*>(raw) = size;
  if (const std::uint64_t with = filling; with >> 32U != 0) {
    std::fill_n(reinterpret_cast<std::uint32_t*>(static_cast<char*>(raw) + header), size / 4,
                static_cast<std::uint32_t>(with));
  }
  return static_cast<char*>(raw) + header;
}

void give_back(void* block) noexcept {
  if (block == nullptr) return;
  void* const raw = static_cast<char*>(block) - header;
  live -= *static_cast<std::size_t*>(raw);
  std::free(raw);
}

void* counted_or_throw(std::size_t size) {
  void* const block = counted(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace

namespace kvkeep_test {
std::size_t allocations() { return calls; }
std::size_t bytes_allocated() { return live; }
void fill_new_memory(std::optional<std::uint32_t> with) { filling = with ? std::uint64_t{1} << 32U | *with : 0; }
}  // namespace kvkeep_test

void* operator new(std::size_t size) { return counted_or_throw(size); }
void* operator new[](std::size_t size) { return counted_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new(std::size_t size, std::align_val_t) { return counted_or_throw(size); }
void* operator new[](std::size_t size, std::align_val_t) { return counted_or_throw(size); }
void* operator new(std::size_t size, std::align_val_t, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new[](std::size_t size, std::align_val_t, const std::nothrow_t&) noexcept { return counted(size); }
void operator delete(void* p) noexcept { give_back(p); }
void operator delete[](void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { give_back(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { give_back(p); }
