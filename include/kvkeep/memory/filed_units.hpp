// filed_units: the rows of filed memory units: which there are, and where they lie behind the slots of a cache.
#ifndef KVKEEP_MEMORY_FILED_UNITS_HPP
#define KVKEEP_MEMORY_FILED_UNITS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Units of a stream, each in a frame. Frames follow each other row by row, so that small units share blocks of 16 tokens; or each
/// begins a block, where they are filled from records.
class filed_units {
 public:
  filed_units() = default;
  filed_units(std::size_t units, std::size_t size, std::size_t frames, bool aligned) noexcept
      : units_(units),
        size_(size),
        frames_(frames),
        stride_(aligned ? (size + block_tokens - 1) / block_tokens * block_tokens : size) {}

  /// first_block: behind those of the cache's slots.
  void lay_out(arena& memory, std::size_t first_block) {
    first_block_ = first_block;
    rows_ = memory.take<std::uint16_t>((units_ * stride_ + block_tokens - 1) / block_tokens);
    counts_ = memory.take<std::uint32_t>(units_);
  }
  void reset() noexcept {
    std::fill(rows_.begin(), rows_.end(), std::uint16_t{0});
    std::fill(counts_.begin(), counts_.end(), 0U);
  }

  [[nodiscard]] std::size_t frames() const noexcept { return frames_; }
  /// Blocks of 16 tokens that the frames take.
  [[nodiscard]] std::size_t blocks() const noexcept { return (frames_ * stride_ + block_tokens - 1) / block_tokens; }
  /// Spans of a unit, at most.
  [[nodiscard]] std::size_t most_spans() const noexcept { return (size_ - 1) / block_tokens + 2; }
  [[nodiscard]] slot slot_of(std::size_t frame, std::size_t token) const noexcept {
    return to_slot(first_block_ * block_tokens + frame * stride_ + token);
  }
  /// The frame of a slot behind the cache's.
  [[nodiscard]] std::size_t frame_of(std::size_t s) const noexcept {
    return (s - first_block_ * block_tokens) / stride_;
  }

  /// Whether anything is left of a unit.
  [[nodiscard]] bool live(std::size_t unit) const noexcept { return counts_[unit] > 0; }
  void add(std::size_t unit, std::size_t token) noexcept {
    const std::size_t row = unit * stride_ + token;
    rows_[row / block_tokens] |= static_cast<std::uint16_t>(1U << row % block_tokens);
    ++counts_[unit];
  }
  /// Forgets a token, if it is there.
  void erase(std::size_t unit, std::size_t token) noexcept {
    const std::size_t row = unit * stride_ + token;
    const auto bit = static_cast<std::uint16_t>(1U << row % block_tokens);
    if ((rows_[row / block_tokens] & bit) == 0) return;
    rows_[row / block_tokens] = static_cast<std::uint16_t>(rows_[row / block_tokens] & ~bit);
    --counts_[unit];
  }
  /// Appends the rows of a unit that lies in a frame to `count` spans. Frames must come in ascending order.
  void list(std::size_t unit, std::size_t frame, position distance, std::span<key_span> spans,
            std::size_t& count) const noexcept {
    for (std::size_t token = 0; token < size_;) {
      const std::size_t row = unit * stride_ + token;
      const std::size_t here = frame * stride_ + token;
      // As many rows as lie in one block, here and there.
      const std::size_t length =
          std::min({size_ - token, block_tokens - row % block_tokens, block_tokens - here % block_tokens});
      const std::uint32_t wanted = (1U << length) - 1U;
      const std::uint32_t rows = (std::uint32_t{rows_[row / block_tokens]} >> row % block_tokens & wanted)
                                 << here % block_tokens;
      const auto block = static_cast<std::uint32_t>(first_block_ + here / block_tokens);
      token += length;
      if (rows == 0) continue;
      if (count > 0 && spans[count - 1].block == block) {
        spans[count - 1].mask |= rows;
      } else {
        spans[count++] = {distance, block, rows, true};
      }
    }
  }

 private:
  std::size_t units_ = 0;
  std::size_t size_ = 1;  // tokens of a unit
  std::size_t frames_ = 0;
  std::size_t stride_ = 1;  // rows from one frame to the next
  std::size_t first_block_ = 0;
  std::span<std::uint16_t> rows_;    // [blocks of all units, with the stride of frames]: rows that are there
  std::span<std::uint32_t> counts_;  // [units]: how many
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
