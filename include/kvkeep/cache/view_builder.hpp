// view_builder: turns what a query may read into spans of slots with distances, for the kernel.
#ifndef KVKEEP_CACHE_VIEW_BUILDER_HPP
#define KVKEEP_CACHE_VIEW_BUILDER_HPP

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>

#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/cache/token_table.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Builds the view of one query at a time, into memory of its own.
template <class Select, class Distance>
class view_builder {
 public:
  view_builder(const Select& select, const Distance& distance) : select_(select), distance_(distance) {}

  /// Takes scratch for `tokens` tokens read at once and `blocks` blocks from the arena.
  void lay_out(arena& memory, std::size_t tokens, std::size_t blocks) {
    spans_ = memory.take<key_span>(tokens);
    mask_ = memory.take<std::uint32_t>(blocks);
    away_ = memory.take<position>(blocks * block_tokens);
  }
  void set(const retention& kept, position first_position) {
    kept_ = kept;
    first_position_ = first_position;
    storage_ = storage_of(distance_, kept_);
    if constexpr (unit_select<Select>) {  // what is dropped from the window is read again, raw
      storage_ = {.raw_from_age = static_cast<position>(distance_.window)};
    }
    one_span_ = storage_.scattered;
  }
  void ignore_angles() noexcept { one_span_ = true; }

  /// How keys are stored.
  [[nodiscard]] const key_storage& storage() const noexcept { return storage_; }
  /// Whether the key at a stream position is stored raw, be it in one form of two.
  [[nodiscard]] bool raw(position at) const noexcept {
    return storage_.scattered || storage_.both() || at - first_position_ < storage_.raw_below;
  }

  /// The view of the query at `query`, whose unit holds `tokens` slots up to and including its own, oldest first;
  /// visible(i) tells whether retain leaves token i to it. `variant` is the select rule's, where it has some.
  template <class Visible>
  [[nodiscard]] query_view build(const token_table& table, std::size_t unit, std::span<const slot> tokens,
                                 position query, std::size_t variant, const Visible& visible) {
    const unit_tokens& mine = table.unit(unit);
    query_ = query;
    for (std::size_t b = 0; b < mine.block_count; ++b) mask_[mine.blocks[b]] = 0;
    std::size_t keys = 0;
    for (std::size_t i = tokens.size(); i-- > 0;) {
      if (!visible(i)) continue;
      const slot s = tokens[i];
      const position at = table.at(s);
      key_place place{query, at, static_cast<position>(keys), at - first_position_, key_label::window};
      if constexpr (variant_select<Select>) {
        if (!select_.reads(variant, query, at)) continue;
      } else if constexpr (pattern_select<Select>) {
        if (!select_.reads(query, at)) continue;
      }
      if constexpr (variant_select<Select> || pattern_select<Select>) {
        if constexpr (requires { select_.label(query, at); }) place.label = select_.label(query, at);
      }
      away_[index(s)] = distance_(place);
      mask_[index(s) / block_tokens] |= 1U << (index(s) % block_tokens);
      ++keys;
    }
    return {spans_.first(group(mine, table)), away_, keys};
  }

 private:
  static constexpr std::uint32_t whole_block = (1U << block_tokens) - 1;

  /// a + b without overflow, whatever a user's rule gives.
  [[nodiscard]] static position add(position a, position b) noexcept {
    return static_cast<position>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  }

  /// Whether the query of the view reads the key at a stream position raw.
  [[nodiscard]] bool reads_raw(position at) const noexcept {
    return storage_.both() ? query_ - at >= storage_.raw_from_age : raw(at);
  }

  /// Turns the masks of the unit's blocks into spans, sorted as a query_view is; returns how many.
  std::size_t group(const unit_tokens& mine, const token_table& table) {
    std::size_t count = 0;
    for (std::size_t b = 0; b < mine.block_count; ++b) {
      const std::uint32_t block = mine.blocks[b];
      if (mask_[block] == 0) continue;
      const std::size_t first = count;
      if (one_span_) {
        spans_[count++] = {0, block, mask_[block], storage_.scattered};
        continue;
      }
      const std::size_t base = block * block_tokens;
      const auto raw_of = [&](std::size_t row) { return reads_raw(table.at(to_slot(base + row))); };
      const auto angle_of = [&](std::size_t row) {
        return add(raw_of(row) ? 0 : table.at(to_slot(base + row)), away_[base + row]);
      };
      if (mask_[block] == whole_block) {  // most blocks, and most of them have one angle
        const position angle = angle_of(0);
        const bool is_raw = raw_of(0);
        position differ = 0;
        for (std::size_t row = 1; row < block_tokens; ++row) {
          differ |= (angle_of(row) ^ angle) | static_cast<position>(raw_of(row) != is_raw);
        }
        if (differ == 0) {
          spans_[count++] = {angle, block, whole_block, is_raw};
          continue;
        }
      }
      for (std::uint32_t left = mask_[block]; left != 0; left &= left - 1) {
        const auto row = static_cast<std::size_t>(std::countr_zero(left));
        const position angle = angle_of(row);
        const bool is_raw = raw_of(row);
        std::size_t i = first;
        while (i < count && (spans_[i].angle != angle || spans_[i].raw != is_raw)) ++i;
        if (i == count) spans_[count++] = {angle, block, 0, is_raw};
        spans_[i].mask |= 1U << row;
      }
    }
    const auto before = [](const key_span& a, const key_span& b) {
      return std::tuple(a.raw, a.angle, a.block) < std::tuple(b.raw, b.angle, b.block);
    };
    // Blocks mostly come in order; a window under one angle needs no sorting.
    const std::span<key_span> all = spans_.first(count);
    if (!std::is_sorted(all.begin(), all.end(), before)) std::sort(all.begin(), all.end(), before);
    return count;
  }

  Select select_;
  Distance distance_;
  retention kept_{};
  position first_position_ = 0;
  position query_ = 0;  // of the view that is built
  key_storage storage_{};
  bool one_span_ = false;          // angles mean nothing: one span a block
  std::span<key_span> spans_;      // [tokens]
  std::span<std::uint32_t> mask_;  // [blocks]: rows read
  std::span<position> away_;       // [blocks * 16], by slot
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
