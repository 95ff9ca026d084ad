// token_table: which slot holds which token, for all units: the block table of the cache.
#ifndef KVKEEP_CACHE_TOKEN_TABLE_HPP
#define KVKEEP_CACHE_TOKEN_TABLE_HPP

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The tokens of one unit: slots oldest first, and the blocks they lie in.
struct unit_tokens {
  std::span<slot> order;            // [tokens of a step at most]; the first `held` are committed
  std::span<std::uint32_t> blocks;  // [blocks at most]; the first `block_count` are in use
  std::size_t held = 0;
  std::size_t block_count = 0;

  [[nodiscard]] std::span<const slot> tokens() const noexcept { return order.first(held); }
};

/// Blocks for `tokens` tokens.
[[nodiscard]] constexpr std::size_t blocks_for(std::size_t tokens) noexcept {
  return (tokens + block_tokens - 1) / block_tokens;
}

/// Closes the gaps that elements leave in a list of slots.
struct gap_closer {
  std::span<slot> list;
  std::size_t read = 0;  // elements before are done with
  std::size_t kept = 0;  // those of them that stay stand before here

  /// The elements read .. end - 1 stay; that at `end`, if there is one, goes.
  void keep_until(std::size_t end) noexcept {
    const auto from = [&](std::size_t i) { return list.begin() + static_cast<std::ptrdiff_t>(i); };
    if (kept < read) std::copy(from(read), from(end), from(kept));
    kept += end - read;
    read = end + 1;
  }
};

class token_table {
 public:
  /// Takes the tables for `count` units from the arena; tokens(u) is what unit u holds within a step at most.
  template <class Tokens>
  void lay_out(arena& memory, std::size_t count, const Tokens& tokens) {
    std::size_t blocks = 0;
    units_ = memory.take<unit_tokens>(count);
    for (std::size_t u = 0; u < count; ++u) {
      const std::span<slot> order = memory.take<slot>(tokens(u));
      const std::span<std::uint32_t> mine = memory.take<std::uint32_t>(blocks_for(tokens(u)));
      if (!memory.measuring()) units_[u] = {order, mine, 0, 0};
      blocks += blocks_for(tokens(u));
    }
    block_total_ = blocks;
    at_ = memory.take<position>(blocks * block_tokens);
    used_ = memory.take<std::uint32_t>(blocks);
    free_ = memory.take<std::uint32_t>(blocks);
  }

  /// Everything free.
  void reset() noexcept {
    for (unit_tokens& u : units_) u.held = u.block_count = 0;
    std::fill(used_.begin(), used_.end(), 0U);
    free_count_ = block_total_;
    for (std::size_t i = 0; i < block_total_; ++i) free_[i] = static_cast<std::uint32_t>(block_total_ - 1 - i);
  }

  [[nodiscard]] std::size_t units() const noexcept { return units_.size(); }
  [[nodiscard]] std::size_t blocks() const noexcept { return block_total_; }
  [[nodiscard]] const unit_tokens& unit(std::size_t u) const noexcept { return units_[u]; }
  [[nodiscard]] unit_tokens& unit(std::size_t u) noexcept { return units_[u]; }
  [[nodiscard]] position at(slot s) const noexcept { return at_[index(s)]; }
  void set_at(slot s, position p) noexcept { at_[index(s)] = p; }
  /// The same for all, by slot.
  [[nodiscard]] std::span<const position> positions() const noexcept { return at_; }

  /// The place in a unit's order, first <= place < last, of the token at position p, which is there.
  [[nodiscard]] std::size_t find(std::size_t unit_index, position p, std::size_t first,
                                 std::size_t last) const noexcept {
    const auto begin = units_[unit_index].order.begin();
    if (at(begin[static_cast<std::ptrdiff_t>(first)]) == p) return first;
    const auto found =
        std::lower_bound(begin + static_cast<std::ptrdiff_t>(first), begin + static_cast<std::ptrdiff_t>(last), p,
                         [&](slot s, position wanted) { return at(s) < wanted; });
    return static_cast<std::size_t>(found - begin);
  }

  /// Takes `count` free slots for a unit, from its own blocks first; they are appended to its order behind `held`.
  void take(std::size_t unit_index, std::size_t count, position first) noexcept {
    unit_tokens& u = units_[unit_index];
    std::size_t taken = 0;
    for (std::size_t b = 0; taken < count; ++b) {
      if (b == u.block_count) u.blocks[u.block_count++] = free_[--free_count_];
      const std::uint32_t block = u.blocks[b];
      while (taken < count && used_[block] != full) {
        const auto row = static_cast<std::size_t>(std::countr_one(used_[block]));
        used_[block] |= 1U << row;
        const slot s = to_slot(block * block_tokens + row);
        at_[index(s)] = first + static_cast<position>(taken);
        u.order[u.held + taken] = s;
        ++taken;
      }
    }
  }

  void release(slot s) noexcept { used_[index(s) / block_tokens] &= ~(1U << (index(s) % block_tokens)); }

  /// Gives the unit's empty blocks back and tells each to `freed(block)`.
  template <class Freed>
  void release_empty_blocks(std::size_t unit_index, const Freed& freed) {
    unit_tokens& u = units_[unit_index];
    // Backwards, so that the free stack gives blocks out again in the order in which they were taken.
    for (std::size_t b = u.block_count; b-- > 0;) {
      const std::uint32_t block = u.blocks[b];
      if (used_[block] != 0) continue;
      free_[free_count_++] = block;
      freed(to_block(block));
    }
    const auto mine = u.blocks.begin();
    const auto last = std::remove_if(mine, mine + static_cast<std::ptrdiff_t>(u.block_count),
                                     [&](std::uint32_t block) { return used_[block] == 0; });
    u.block_count = static_cast<std::size_t>(last - mine);
  }

  /// Moves the tokens of the emptiest blocks into others until the unit holds at most ceil(held / 16) + 1 blocks; each
  /// move is told to `moved(from, to)`. At most 15 rows a block freed.
  template <class Moved>
  void compact(std::size_t unit_index, const Moved& moved) {
    unit_tokens& u = units_[unit_index];
    std::size_t live_blocks = 0;
    for (std::size_t b = 0; b < u.block_count; ++b) {
      if (used_[u.blocks[b]] != 0) ++live_blocks;
    }
    for (; live_blocks > blocks_for(u.held) + 1; --live_blocks) {
      std::size_t emptiest = u.block_count;
      int fewest = static_cast<int>(block_tokens) + 1;
      for (std::size_t b = 0; b < u.block_count; ++b) {
        const int live = std::popcount(used_[u.blocks[b]]);
        if (live > 0 && live < fewest) {
          fewest = live;
          emptiest = b;
        }
      }
      const std::uint32_t source = u.blocks[emptiest];
      while (used_[source] != 0) {
        const std::uint32_t target = fullest_with_room(u, source);
        const auto row = static_cast<std::size_t>(std::countr_zero(used_[source]));
        const auto room = static_cast<std::size_t>(std::countr_one(used_[target]));
        move_token(u, to_slot(source * block_tokens + row), to_slot(target * block_tokens + room), moved);
      }
    }
  }

 private:
  static constexpr std::uint32_t full = (1U << block_tokens) - 1;

  /// The block of a unit with the most tokens that has room, other than `source`. Filling the fullest first never makes a
  /// target the emptiest block while another is left, so no row moves twice and no move writes where another reads.
  [[nodiscard]] std::uint32_t fullest_with_room(const unit_tokens& u, std::uint32_t source) const noexcept {
    std::uint32_t best = source;
    int most = -1;
    for (std::size_t b = 0; b < u.block_count; ++b) {
      const std::uint32_t block = u.blocks[b];
      const int live = std::popcount(used_[block]);
      if (block == source || live == 0 || used_[block] == full || live <= most) continue;
      best = block;
      most = live;
    }
    return best;
  }

  template <class Moved>
  void move_token(unit_tokens& u, slot from, slot to, const Moved& moved) {
    used_[index(to) / block_tokens] |= 1U << (index(to) % block_tokens);
    release(from);
    at_[index(to)] = at_[index(from)];
    *std::find(u.order.begin(), u.order.begin() + static_cast<std::ptrdiff_t>(u.held), from) = to;
    moved(from, to);
  }

  std::span<unit_tokens> units_;   // [units]
  std::span<position> at_;         // [blocks * 16], by slot
  std::span<std::uint32_t> used_;  // [blocks], bit r: row r holds a token
  std::span<std::uint32_t> free_;  // [blocks], a stack of free blocks
  std::size_t free_count_ = 0;
  std::size_t block_total_ = 0;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
