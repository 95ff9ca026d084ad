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

/// The cache lines of some blocks, in pieces of at most a page; of two kinds of blocks one after the other. Empty by default:
/// asking then does nothing.
class prefetch_window {
 public:
  static constexpr std::size_t most = 48;  // pieces; what is beyond is left to the hardware

  /// Adds a block of `bytes` bytes. Blocks of a kind are equally large and are added together.
  void add(const std::byte* block, std::size_t bytes) noexcept {
    for (std::size_t at = 0; at < bytes && pieces_ < most; at += page) piece_at_[pieces_++] = block + at;
    bytes_[kind_] = bytes < page ? bytes : page;
  }
  /// Blocks of another kind follow, which are asked for after all before.
  void other_kind() noexcept {
    first_kind_ = pieces_;
    kind_ = 1;
  }
  /// Spreads the lines evenly over `turns` calls of ask(): bursts would wait for the buffers that misses need.
  void spread(std::size_t turns) noexcept {
    if (kind_ == 0) first_kind_ = pieces_;
    const std::size_t bites = first_kind_ * bites_of(bytes_[0]) + (pieces_ - first_kind_) * bites_of(bytes_[1]);
    a_turn_ = bites * whole / turns + 1;
    begin_ = 0;
    end_ = first_kind_;
    kind_ = 0;
  }

  /// Asks for the next lines, as many as are due.
  void ask() noexcept {
    due_ += a_turn_;
    for (; due_ >= whole; due_ -= whole) {
      if (piece_ == end_) {
        piece_ = begin_;
        offset_ += bite;
      }
      if (offset_ >= bytes_[kind_] || begin_ == end_) {
        if (kind_ == 1) return;
        kind_ = 1;
        begin_ = piece_ = first_kind_;
        end_ = pieces_;
        offset_ = 0;
        if (begin_ == end_) return;
      }
      for (std::size_t i = 0; i < bite; i += cache_line) prefetch(piece_at_[piece_] + offset_ + i);
      ++piece_;
    }
  }

 private:
  static constexpr std::size_t whole = 65536;
  static constexpr std::size_t bite = 2 * cache_line;  // of one piece at a time

  [[nodiscard]] static constexpr std::size_t bites_of(std::size_t bytes) noexcept { return (bytes + bite - 1) / bite; }

  std::array<const std::byte*, most> piece_at_;  // [pieces]
  std::size_t pieces_ = 0;
  std::size_t first_kind_ = 0;  // pieces of it
  std::size_t kind_ = 0;        // which is added, or asked for
  std::size_t bytes_[2] = {};   // of a piece, by kind
  std::size_t a_turn_ = 0;      // bites, in parts of a whole
  std::size_t due_ = 0;
  std::size_t begin_ = 0;  // pieces that are asked for in turn
  std::size_t end_ = 0;
  std::size_t piece_ = 0;   // next to be asked
  std::size_t offset_ = 0;  // bytes into it
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
