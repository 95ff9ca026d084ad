// prefetch_window: asks for the cache lines that the next stage reads, one from each of several pages in turn.
//
// Many hardware prefetchers stop at the end of a page, so one sequential stream does not fill the memory bus; lines asked for
// in an order that goes round the pages of a window do.
#ifndef KVKEEP_ATTENTION_PREFETCH_HPP
#define KVKEEP_ATTENTION_PREFETCH_HPP

#include <array>
#include <cstddef>

#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::size_t cache_line = 64;  // bytes
inline constexpr std::size_t page = 4096;      // bytes

/// The cache lines of some blocks of equal size, in pieces of at most a page. Empty by default: asking then does nothing.
class prefetch_window {
 public:
  static constexpr std::size_t most = 32;  // pieces; what is beyond is left to the hardware

  /// Adds a block of `bytes` bytes.
  void add(const std::byte* block, std::size_t bytes) noexcept {
    for (std::size_t at = 0; at < bytes && pieces_ < most; at += page) piece_at_[pieces_++] = block + at;
    end_ = bytes < page ? bytes : page;
  }
  /// Spreads the lines evenly over `turns` calls of ask(): bursts would wait for the buffers that misses need.
  void spread(std::size_t turns) noexcept { a_turn_ = pieces_ * ((end_ + bite - 1) / bite) * whole / turns + 1; }

  /// Asks for the next lines, as many as are due.
  void ask() noexcept {
    due_ += a_turn_;
    for (; due_ >= whole; due_ -= whole) {
      if (offset_ >= end_) return;
      for (std::size_t i = 0; i < bite; i += cache_line) prefetch(piece_at_[piece_] + offset_ + i);
      if (++piece_ == pieces_) {
        piece_ = 0;
        offset_ += bite;
      }
    }
  }

 private:
  static constexpr std::size_t whole = 65536;
  static constexpr std::size_t bite = 2 * cache_line;  // of one piece at a time

  std::array<const std::byte*, most> piece_at_;  // [pieces]
  std::size_t pieces_ = 0;
  std::size_t a_turn_ = 0;  // bites, in parts of a whole
  std::size_t due_ = 0;
  std::size_t piece_ = 0;   // next to be asked
  std::size_t offset_ = 0;  // bytes into it
  std::size_t end_ = 0;     // bytes of a piece
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
