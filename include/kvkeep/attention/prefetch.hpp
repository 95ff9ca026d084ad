// prefetch_window: asks for the cache lines that the next stage reads, a page's worth from each of several pages in turn.
//
// Hardware prefetchers stop at the end of a page, so one sequential stream does not fill the memory bus; lines asked for in
// an order that goes round the pages of a window do.
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

  /// Adds a block of `bytes` bytes, at least a line.
  void add(const std::byte* block, std::size_t bytes) noexcept {
    const std::size_t lines = bytes / cache_line;
    const std::size_t pieces = (lines + lines_of_page - 1) / lines_of_page;
    lines_ = (lines + pieces - 1) / pieces;
    for (std::size_t i = 0; i < pieces && pieces_ < most; ++i) {
      const std::size_t first =
          i * lines_ < lines - lines_ ? i * lines_ : lines - lines_;  // none reaches beyond the block
      piece_at_[pieces_++] = block + first * cache_line;
    }
  }
  [[nodiscard]] std::size_t lines() const noexcept { return pieces_ * lines_; }

  /// Asks for the next `count` lines.
  void ask(std::size_t count) noexcept {
    for (std::size_t i = 0; i < count && line_ < lines_; ++i) {
      prefetch(piece_at_[piece_] + line_ * cache_line);
      if (++piece_ == pieces_) {
        piece_ = 0;
        ++line_;
      }
    }
  }

 private:
  static constexpr std::size_t lines_of_page = page / cache_line;

  std::array<const std::byte*, most> piece_at_;  // [pieces]
  std::size_t pieces_ = 0;
  std::size_t lines_ = 0;  // of a piece
  std::size_t piece_ = 0;  // next to be asked
  std::size_t line_ = 0;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
