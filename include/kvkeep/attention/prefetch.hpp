// prefetch_window: asks for the cache lines that the next stage reads, one from each of several pages in turn.
//
// Many hardware prefetchers stop at the end of a page, so one sequential stream does not fill the memory bus; lines asked for
// in an order that goes round the pages of a window do. Where hardware_streams says that the hardware keeps up with one
// stream, asking only costs, and no_prefetch stands in its place.
#ifndef KVKEEP_ATTENTION_PREFETCH_HPP
#define KVKEEP_ATTENTION_PREFETCH_HPP

#include <array>
#include <bit>
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
  static constexpr std::size_t at_once = 4;

  /// Adds a block of `bytes` bytes, at least a line.
  void add(const std::byte* block, std::size_t bytes) noexcept {
    const std::size_t lines = bytes / cache_line;
    const std::size_t pieces = (lines + lines_of_page - 1) / lines_of_page;
    lines_ = (lines + pieces - 1) / pieces;
    for (std::size_t i = 0; i < pieces && pieces_ < most; ++i) {
      // none reaches beyond the block
      const std::size_t first = i * lines_ < lines - lines_ ? i * lines_ : lines - lines_;
      piece_at_[pieces_++] = block + first * cache_line;
    }
  }
  /// Spreads the lines over `turns` calls of ask(), whose argument counts up, and makes the pieces a multiple of at_once.
  void spread(std::size_t turns) noexcept {
    if (pieces_ == 0) return;
    for (std::size_t i = 0; pieces_ % at_once != 0; ++i) piece_at_[pieces_++] = piece_at_[i];
    const std::size_t groups = pieces_ / at_once * lines_;
    end_ = lines_ * cache_line;
    groups_ = (groups + turns - 1) / turns;
    pause_ = turns > groups ? std::bit_floor(turns / groups) - 1 : 0;
  }

  /// Asks for the next few lines, or for none where there are fewer lines than turns.
  void ask(std::size_t turn) noexcept {
    if ((turn & pause_) != 0) return;
    for (std::size_t g = 0; g < groups_ && offset_ < end_; ++g) {
      for (std::size_t i = 0; i < at_once; ++i) prefetch(piece_at_[piece_ + i] + offset_);
      piece_ += at_once;
      if (piece_ == pieces_) {
        piece_ = 0;
        offset_ += cache_line;
      }
    }
  }

 private:
  static constexpr std::size_t lines_of_page = page / cache_line;

  std::array<const std::byte*, most> piece_at_;  // [pieces]
  std::size_t pieces_ = 0;
  std::size_t lines_ = 0;   // of a piece
  std::size_t groups_ = 0;  // of at_once lines, a turn
  std::size_t pause_ = 0;   // a mask: turns without a line
  std::size_t piece_ = 0;   // next to be asked
  std::size_t offset_ = 0;  // bytes into it
  std::size_t end_ = 0;     // bytes of a piece
};

/// Asks for nothing.
struct no_prefetch {
  void add(const std::byte*, std::size_t) const noexcept {}
  void spread(std::size_t) const noexcept {}
  void ask(std::size_t) const noexcept {}
};

using read_ahead = std::conditional_t<hardware_streams, no_prefetch, prefetch_window>;

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
