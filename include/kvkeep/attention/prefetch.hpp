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

/// The lines of up to `most` chunks of memory, each at most a page long. Empty by default: asking then does nothing.
class prefetch_window {
 public:
  static constexpr std::size_t most = 32;

  void clear() noexcept {
    chunks_ = 0;
    lines_ = 0;
    chunk_ = 0;
    line_ = 0;
  }
  /// Adds `bytes` bytes from `from` on; what is beyond the window's size is left to the hardware.
  void add(const std::byte* from, std::size_t bytes) noexcept {
    while (bytes > 0 && chunks_ < most) {
      const std::size_t length = bytes < page ? bytes : page;
      chunk_at_[chunks_++] = from;
      const std::size_t lines = (length + cache_line - 1) / cache_line;
      lines_ = lines > lines_ ? lines : lines_;
      from += length;
      bytes -= length;
    }
  }
  [[nodiscard]] std::size_t lines() const noexcept { return chunks_ * lines_; }

  /// Asks for the next `count` lines.
  void ask(std::size_t count) noexcept {
    for (std::size_t i = 0; i < count && line_ < lines_; ++i) {
      prefetch(chunk_at_[chunk_] + line_ * cache_line);
      if (++chunk_ == chunks_) {
        chunk_ = 0;
        ++line_;
      }
    }
  }

 private:
  std::array<const std::byte*, most> chunk_at_;  // [chunks]
  std::size_t chunks_ = 0;
  std::size_t lines_ = 0;  // of the longest chunk
  std::size_t chunk_ = 0;  // next to be asked
  std::size_t line_ = 0;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
