// tile_pass: one call of attend, tile by tile: choose blocks, score, soften, add values.
#ifndef KVKEEP_ATTENTION_TILE_PASS_HPP
#define KVKEEP_ATTENTION_TILE_PASS_HPP

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>

#include "kvkeep/attention/attend_types.hpp"
#include "kvkeep/attention/exp.hpp"
#include "kvkeep/codec/f32.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The blocks of a tile.
struct tile_plan {
  std::array<std::uint32_t, most_tile_blocks> blocks{};  // ascending where several queries read them
  std::size_t count = 0;
};

/// One call of attend. Turn is stored_keys, or what turns the keys of a block before they are scored.
template <class Lane, class Turn, class Observer>
class tile_pass {
 public:
  using key_codec = typename Lane::key_codec;
  using value_codec = typename Lane::value_codec;
  static constexpr bool turns_keys = !std::is_same_v<Turn, stored_keys>;
  using scored_codec = std::conditional_t<turns_keys, f32, key_codec>;

  tile_pass(const Lane& lane, std::span<const query_run> queries, const score_options& options, const Turn& turn,
            const Observer& observer, const attend_scratch& scratch) noexcept
      : lane_(lane),
        queries_(queries),
        options_(options),
        turn_(turn),
        observer_(observer),
        group_(queries[0].states.size()),
        dim_(lane.head_dim()),
        scratch_(scratch) {}

  void run() noexcept {
    for (std::size_t q = 0; q < queries_.size(); ++q) scratch_.next[q] = 0;
    tile_plan now;
    choose(now);
    while (now.count > 0) {
      take(now);
      score(now);
      for (std::size_t i = 0; i < active_; ++i) soften(now, scratch_.active[i]);
      tile_plan next;
      choose(next);
      add(now, next);
      now = next;
    }
  }

 private:
  [[nodiscard]] float* scores_of(std::size_t row) const noexcept {
    return scratch_.scores.data() + row * most_tile_tokens;
  }
  [[nodiscard]] softmax_state& state_of(std::size_t row) const noexcept {
    return queries_[row / group_].states[row % group_];
  }
  [[nodiscard]] const std::uint16_t* masks_of(std::size_t query) const noexcept {
    return scratch_.masks.data() + query * most_tile_blocks;
  }

  /// The next blocks that any query reads, without taking them.
  void choose(tile_plan& tile) const noexcept {
    const std::size_t most = tile_blocks<key_codec>(dim_);
    tile.count = 0;
    if (queries_.size() == 1) {
      const auto spans = queries_[0].spans.subspan(scratch_.next[0]);
      tile.count = std::min(most, spans.size());
      for (std::size_t b = 0; b < tile.count; ++b) tile.blocks[b] = spans[b].block;
      return;
    }
    // The smallest block beyond the last one chosen, again and again: queries of a chunk read almost the same ones.
    std::uint64_t beyond = 0;
    while (tile.count < most) {
      std::uint64_t smallest = ~std::uint64_t{0};
      for (std::size_t q = 0; q < queries_.size(); ++q) {
        const auto spans = queries_[q].spans;
        for (std::size_t i = scratch_.next[q]; i < spans.size(); ++i) {
          if (spans[i].block >= beyond) {
            smallest = std::min<std::uint64_t>(smallest, spans[i].block);
            break;
          }
        }
      }
      if (smallest == ~std::uint64_t{0}) return;
      tile.blocks[tile.count++] = static_cast<std::uint32_t>(smallest);
      beyond = smallest + 1;
    }
  }

  /// Moves the spans of a tile's blocks into masks, and lists the rows that read any.
  void take(const tile_plan& tile) noexcept {
    active_ = 0;
    for (std::size_t q = 0; q < queries_.size(); ++q) {
      const auto spans = queries_[q].spans;
      std::size_t& at = scratch_.next[q];
      std::uint16_t* const masks = scratch_.masks.data() + q * most_tile_blocks;
      std::uint32_t any = 0;
      for (std::size_t b = 0; b < tile.count; ++b) {
        masks[b] = 0;
        if (at < spans.size() && spans[at].block == tile.blocks[b]) {
          masks[b] = static_cast<std::uint16_t>(spans[at++].mask);
          any |= masks[b];
        }
      }
      if (any == 0) continue;
      for (std::size_t g = 0; g < group_; ++g) {
        scratch_.active[active_++] = static_cast<std::uint32_t>(q * group_ + g);
      }
    }
  }

  template <std::size_t Rows>
  void score_rows(const tile_plan& tile, const std::byte* const* blocks, std::size_t first, prefetch_window& ahead,
                  std::size_t lines) noexcept {
    std::array<const float*, Rows> queries;
    std::array<float*, Rows> scores;
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::size_t row = scratch_.active[first + r];
      queries[r] = queries_[row / group_].turned + row % group_ * dim_;
      scores[r] = scores_of(row);
    }
    std::size_t b = 0;
    const auto forward = [&](std::size_t count) {
      b += count;
      for (float*& s : scores) s += count * block_tokens;
    };
    while (b + blocks_at_once <= tile.count) {
      score_blocks<scored_codec, Rows, blocks_at_once>(blocks + b, dim_, queries.data(), scores.data(), ahead, lines);
      forward(blocks_at_once);
    }
    while (b < tile.count) {
      score_blocks<scored_codec, Rows, 1>(blocks + b, dim_, queries.data(), scores.data(), ahead, lines);
      forward(1);
    }
  }

  /// The keys of block b of a tile, ready to be scored.
  [[nodiscard]] const std::byte* keys_of(const tile_plan& tile, std::size_t b) noexcept {
    const std::byte* const stored = lane_.key_block(tile.blocks[b]);
    if constexpr (turns_keys) {
      float* const turned = scratch_.keys.data() + b * dim_ * block_tokens;
      const float* const decoded = key_codec::keys(stored, dim_, turned);
      turn_(decoded, queries_[0].distance.data() + std::size_t{tile.blocks[b]} * block_tokens, masks_of(0)[b], turned);
      return reinterpret_cast<const std::byte*>(turned);
    } else {
      return stored;
    }
  }

  void score(const tile_plan& tile) noexcept {
    std::array<const std::byte*, most_tile_blocks> blocks;
    prefetch_window ahead;
    for (std::size_t b = 0; b < tile.count; ++b) {
      blocks[b] = keys_of(tile, b);
      ahead.add(lane_.value_block(tile.blocks[b]), value_codec::value_block_bytes(dim_));
    }
    const std::size_t turns =
        (active_ + rows_at_once - 1) / rows_at_once * ((tile.count + blocks_at_once - 1) / blocks_at_once) * dim_;
    const std::size_t lines = ahead.lines() / turns + 1;
    std::size_t i = 0;
    for (; i + rows_at_once <= active_; i += rows_at_once)
      score_rows<rows_at_once>(tile, blocks.data(), i, ahead, lines);
    if constexpr (rows_at_once > 2) {
      if (active_ - i >= 2) {
        score_rows<2>(tile, blocks.data(), i, ahead, lines);
        i += 2;
      }
    }
    if (i < active_) score_rows<1>(tile, blocks.data(), i, ahead, lines);
  }

  /// Softcap and ALiBi on a row's scores.
  void finish_scores(const tile_plan& tile, std::size_t row, float* scores) const noexcept {
    if (options_.softcap > 0.0F) {
      for (std::size_t i = 0; i < tile.count * block_tokens; ++i) {
        scores[i] = options_.softcap * std::tanh(scores[i] / options_.softcap);
      }
    }
    if (!options_.slopes.empty()) {
      const position* const distance = queries_[row / group_].distance.data();
      const float slope = options_.slopes[row % group_];
      for (std::size_t b = 0; b < tile.count; ++b) {
        const position* const away = distance + std::size_t{tile.blocks[b]} * block_tokens;
        for (std::size_t r = 0; r < block_tokens; ++r) {
          scores[b * block_tokens + r] -= slope * static_cast<float>(away[r]);
        }
      }
    }
  }

  /// Turns a row's scores into weights, and its state to the new maximum.
  void soften(const tile_plan& tile, std::size_t row) noexcept {
    float* const scores = scores_of(row);
    const std::uint16_t* const masks = masks_of(row / group_);
    const std::size_t tokens = tile.count * block_tokens;
    finish_scores(tile, row, scores);
    observer_(row / group_, row % group_, std::span<const std::uint32_t>(tile.blocks).first(tile.count), masks, scores);
    for (std::size_t b = 0; b < tile.count; ++b) {
      if (masks[b] == 0xFFFFU) continue;
      for (std::size_t part = 0; part < block_vectors; ++part) {
        float* const at = scores + b * block_tokens + part * vec_width;
        const vec_int read = lanes_of(std::uint32_t{masks[b]} >> (part * vec_width));
        store(at, read ? load(at) : splat(-std::numeric_limits<float>::infinity()));
      }
    }
    vec top = load(scores);
    for (std::size_t i = vec_width; i < tokens; i += vec_width) top = larger(load(scores + i), top);
    softmax_state& state = state_of(row);
    const float tops = largest(top);
    float shrink = 1.0F;
    if (tops > state.max) {
      shrink = exp_below(state.max - tops);
      state.max = tops;
    }
    vec sum{};
    const vec base = splat(state.max);
    for (std::size_t i = 0; i < tokens; i += vec_width) {
      const vec weight = exp_below(load(scores + i) - base);
      sum += weight;
      store(scores + i, weight);
    }
    state.sum = state.sum * shrink + sum_of(sum);
    scratch_.shrink[row] = shrink;
  }

  /// The keys of a tile that a query reads; how many.
  std::size_t list_keys(const tile_plan& tile, std::size_t query, tile_key* keys) const noexcept {
    const std::uint16_t* const masks = masks_of(query);
    std::size_t count = 0;
    for (std::size_t b = 0; b < tile.count; ++b) {
      const std::byte* const block = lane_.value_block(tile.blocks[b]);
      for (std::uint32_t left = masks[b]; left != 0; left &= left - 1) {
        const auto r = static_cast<std::uint32_t>(std::countr_zero(left));
        keys[count++] = {block, r, static_cast<std::uint32_t>(b * block_tokens + r)};
      }
    }
    return count;
  }

  template <std::size_t Rows>
  void add_rows(const tile_key* keys, std::size_t count, std::size_t first, prefetch_window& ahead,
                std::size_t lines) noexcept {
    std::array<const float*, Rows> weights;
    std::array<float*, Rows> accumulated;
    std::array<float, Rows> shrink;
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::size_t row = scratch_.active[first + r];
      weights[r] = scores_of(row);
      accumulated[r] = state_of(row).accumulated.data();
      shrink[r] = scratch_.shrink[row];
    }
    std::size_t c = 0;
    for (; c + value_vectors * vec_width <= dim_; c += value_vectors * vec_width) {
      add_values<value_codec, Rows, value_vectors>(keys, count, dim_, c, weights.data(), shrink.data(),
                                                   accumulated.data(), ahead, lines);
    }
    for (; c + vec_width <= dim_; c += vec_width) {
      add_values<value_codec, Rows, 1>(keys, count, dim_, c, weights.data(), shrink.data(), accumulated.data(), ahead,
                                       lines);
    }
    if (c == dim_) return;
    if (dim_ < vec_width) {
      for (std::size_t r = 0; r < Rows; ++r) {
        add_values_rest<value_codec>(keys, count, dim_, c, weights[r], shrink[r], accumulated[r]);
      }
      return;
    }
    // The last vector overlaps what is done, which is put back.
    const std::size_t last = dim_ - vec_width;
    std::array<std::array<float, vec_width>, Rows> done;
    for (std::size_t r = 0; r < Rows; ++r) std::copy(accumulated[r] + last, accumulated[r] + c, done[r].begin());
    add_values<value_codec, Rows, 1>(keys, count, dim_, last, weights.data(), shrink.data(), accumulated.data(), ahead,
                                     lines);
    for (std::size_t r = 0; r < Rows; ++r) {
      std::copy(done[r].begin(), done[r].begin() + static_cast<std::ptrdiff_t>(c - last), accumulated[r] + last);
    }
  }

  [[nodiscard]] bool read_alike(const tile_plan& tile, std::size_t a, std::size_t b) const noexcept {
    return a == b || std::equal(masks_of(a), masks_of(a) + tile.count, masks_of(b));
  }

  /// Adds the values of a tile, whose weights are in scratch, and fetches the keys of the next.
  void add(const tile_plan& tile, const tile_plan& next) noexcept {
    prefetch_window ahead;
    for (std::size_t b = 0; b < next.count; ++b) {
      ahead.add(lane_.key_block(next.blocks[b]), key_codec::key_block_bytes(dim_));
    }
    const std::size_t stripes = (dim_ + value_vectors * vec_width - 1) / (value_vectors * vec_width);
    const std::size_t turns =
        (active_ + rows_at_once - 1) / rows_at_once * std::max<std::size_t>(stripes, 1) * tile.count * block_tokens;
    const std::size_t lines = ahead.lines() / turns + 1;
    std::array<tile_key, most_tile_tokens> keys;
    std::size_t count = 0;
    std::size_t listed = ~std::size_t{0};
    for (std::size_t i = 0; i < active_;) {
      const std::size_t query = scratch_.active[i] / group_;
      if (listed == ~std::size_t{0} || !read_alike(tile, listed, query)) count = list_keys(tile, query, keys.data());
      listed = query;
      std::size_t alike = 1;
      while (alike < rows_at_once && i + alike < active_ &&
             read_alike(tile, scratch_.active[i + alike] / group_, query)) {
        ++alike;
      }
      if (alike == rows_at_once) {
        add_rows<rows_at_once>(keys.data(), count, i, ahead, lines);
        i += rows_at_once;
      } else if (alike >= 2) {
        add_rows<2>(keys.data(), count, i, ahead, lines);
        i += 2;
      } else {
        add_rows<1>(keys.data(), count, i, ahead, lines);
        i += 1;
      }
    }
  }

  const Lane& lane_;
  std::span<const query_run> queries_;
  const score_options& options_;
  const Turn& turn_;
  const Observer& observer_;
  std::size_t group_;
  std::size_t dim_;
  attend_scratch scratch_;
  std::size_t active_ = 0;  // rows that read something of the tile
};

}  // namespace detail

KVKEEP_NAMESPACE_END

#endif
