// tile_pass: one call of attend, tile by tile: choose blocks, score, soften, add values.
#ifndef KVKEEP_ATTENTION_TILE_PASS_HPP
#define KVKEEP_ATTENTION_TILE_PASS_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>

#include "kvkeep/attention/attend_types.hpp"
#include "kvkeep/attention/tile_plan.hpp"
#include "kvkeep/attention/turned_tile.hpp"
#include "kvkeep/detail/exp.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Keys that are read as they are stored.
struct stored_keys {};

/// f.operator()<Rows>(first) for groups of rows first, ..., as large as can be up to Most, that fill [0, count).
template <std::size_t Most, class F>
inline void by_groups(std::size_t count, const F& f) noexcept {
  std::size_t i = 0;
  for (; i + Most <= count; i += Most) f.template operator()<Most>(i);
  if constexpr (Most > 4) {
    if (count - i >= 4) {
      f.template operator()<4>(i);
      i += 4;
    }
  }
  if constexpr (Most > 2) {
    if (count - i >= 2) {
      f.template operator()<2>(i);
      i += 2;
    }
  }
  if constexpr (Most > 1) {
    if (i < count) f.template operator()<1>(i);
  }
}

/// One call of attend over one lane; Many: for many_rows rows or more. Keys is stored_keys, or the key_turning of keys that
/// are turned as they are read.
template <bool Many, class Lane, class Keys, class Observer>
class tile_pass {
 public:
  using key_codec = typename Lane::key_codec;
  using value_codec = typename Lane::value_codec;
  static constexpr bool turned = std::is_same_v<Keys, key_turning>;
  static constexpr bool integers = key_codec::integer && !turned;
  static constexpr bool adds_integers = value_codec::integer && multiplies_bytes;
  /// For many rows keys and values are decoded once, but for integers that are multiplied as such.
  static constexpr bool decodes_keys = Many && !integers && !std::is_same_v<key_codec, f32>;
  static constexpr bool decodes_values = Many && !adds_integers && !std::is_same_v<value_codec, f32>;
  using scored_codec = std::conditional_t<decodes_keys, f32, key_codec>;
  using added_codec = std::conditional_t<decodes_values, f32, value_codec>;

  tile_pass(const Lane& lane, std::span<const query_run> queries, const score_options& options, const Keys& keys,
            const Observer& observer, const attend_scratch& scratch) noexcept
      : lane_(lane),
        queries_(queries),
        options_(options),
        keys_(keys),
        observer_(observer),
        group_(queries[0].states.size()),
        dim_(lane.head_dim()),
        scratch_(scratch) {}

  /// All tiles.
  void run() noexcept {
    if constexpr (integers) round_queries();
    std::fill_n(scratch_.next.begin(), queries_.size(), std::size_t{0});
    tile_plan now = following();
    while (now.count > 0) {
      take(now);
      const tile_plan next = following();
      work(now, lane_, next);
      now = next;
    }
  }

  /// The tile of a single query's spans from number `first` on; `next_lane` and `next` are what will be read after it.
  void run_tile(std::size_t first, const Lane& next_lane, std::size_t next_first) noexcept {
    scratch_.next[0] = first;
    const tile_plan now = following();
    take(now);
    scratch_.next[0] = next_first;
    work(now, next_lane, following());
  }

  /// Blocks of a tile.
  [[nodiscard]] static constexpr std::size_t blocks_of_tile(std::size_t head_dim) noexcept {
    if constexpr (decodes_keys || decodes_values) return tile_blocks<f32>(head_dim);
    return tile_blocks<key_codec>(head_dim);
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
  [[nodiscard]] const float* query_of(std::size_t row) const noexcept {
    return queries_[row / group_].turned + row % group_ * dim_;
  }
  [[nodiscard]] integer_query integers_of(std::size_t row) const noexcept {
    const std::size_t groups = dim_ / quant_group;
    return {scratch_.quads.data() + row * groups * group_quads, scratch_.quad_scales.data() + row * groups,
            scratch_.offsets.data() + row * groups};
  }
  void round_queries() noexcept {
    for (std::size_t row = 0; row < queries_.size() * group_; ++row) {
      round_query(query_of(row), dim_, key_codec::bias, integers_of(row));
    }
  }

  /// The next tile, whose blocks are not taken yet.
  [[nodiscard]] tile_plan following() const noexcept {
    return plan_tile(queries_, scratch_.next, blocks_of_tile(dim_));
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

  void work(const tile_plan& tile, const Lane& next_lane, const tile_plan& next) noexcept {
    if (active_ == 0) return;  // spans of no rows at all
    score(tile, next_lane, next);
    for (std::size_t i = 0; i < active_; ++i) soften(tile, scratch_.active[i]);
    add(tile, next_lane, next);
  }

  /// Scores of Rows rows and Blocks blocks of a tile, from row `first` of the active ones and block b on.
  template <std::size_t Rows, std::size_t Blocks>
  void score_some(const std::byte* const* blocks, const float* const* angles, std::size_t first, std::size_t b,
                  prefetch_window& ahead) noexcept {
    std::array<const float*, Rows> queries;
    std::array<integer_query, Rows> rounded;
    std::array<float*, Rows> scores;
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::size_t row = scratch_.active[first + r];
      if constexpr (integers) rounded[r] = integers_of(row);
      queries[r] = query_of(row);
      scores[r] = scores_of(row) + b * block_tokens;
    }
    if constexpr (integers) {
      score_integer_blocks<key_codec, Rows, Blocks>(blocks + b, dim_, rounded.data(), scores.data(), ahead);
    } else if constexpr (turned) {
      score_turned_blocks<scored_codec, Rows, Blocks>(blocks + b, angles + b, keys_, dim_, queries.data(),
                                                      scores.data(), ahead);
    } else {
      score_blocks<scored_codec, Rows, Blocks>(blocks + b, dim_, queries.data(), scores.data(), ahead);
    }
  }

  void score(const tile_plan& tile, const Lane& next_lane, const tile_plan& next) noexcept {
    std::array<const std::byte*, most_tile_blocks> blocks;
    std::array<const float*, most_tile_blocks> angles;
    prefetch_window ahead;
    for (std::size_t b = 0; b < tile.count; ++b) {
      blocks[b] = lane_.key_block(tile.blocks[b]);
      if constexpr (decodes_keys) {
        float* const room = scratch_.keys.data() + b * dim_ * block_tokens;
        blocks[b] = reinterpret_cast<const std::byte*>(key_codec::keys(blocks[b], dim_, room));
      }
      if constexpr (turned) angles[b] = keys_.of_block(tile.blocks[b]);
      if constexpr (!adds_integers) ahead.add(lane_.value_block(tile.blocks[b]), value_codec::value_block_bytes(dim_));
    }
    if constexpr (adds_integers) add_keys(ahead, next_lane, next);
    constexpr std::size_t together = score_together;
    const std::size_t turns = integers ? dim_ / 4 : turned ? dim_ / 2 : dim_;
    ahead.spread((active_ + rows_at_once - 1) / rows_at_once * ((tile.count + together - 1) / together) * turns);
    // Blocks that are scored side by side stay in the first level of cache while all rows pass.
    std::size_t b = 0;
    const auto columns = [&]<std::size_t Blocks>() {
      for (; b + Blocks <= tile.count; b += Blocks) {
        by_groups<rows_at_once>(active_, [&]<std::size_t Rows>(std::size_t first) {
          score_some<Rows, Blocks>(blocks.data(), angles.data(), first, b, ahead);
        });
      }
    };
    columns.template operator()<together>();
    if constexpr (together > 1) columns.template operator()<1>();
  }

  /// Softcap and ALiBi on a row's scores.
  void finish_scores(const tile_plan& tile, std::size_t row, float* scores) const noexcept {
    if (options_.softcap > 0.0F) {
      for (std::size_t i = 0; i < tile.count * block_tokens; ++i) {
        scores[i] = options_.softcap * std::tanh(scores[i] / options_.softcap);
      }
    }
    if (!options_.shifts.empty()) {
      for (std::size_t i = 0; i < tile.count * block_tokens; ++i) scores[i] -= options_.shifts[row % group_];
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
    if constexpr (requires { observer_.scores(row, row, std::span<const std::uint32_t>{}, masks, scores); }) {
      observer_.scores(queries_[row / group_].number, row % group_,
                       std::span<const std::uint32_t>(tile.blocks).first(tile.count), masks, scores);
    }
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
    if (tops > state.max) {
      const float shrink = exp_below(state.max - tops);
      state.max = tops;
      state.sum *= shrink;
      for (float& x : state.accumulated) x *= shrink;
    }
    vec sum{};
    const vec base = splat(state.max);
    for (std::size_t i = 0; i < tokens; i += vec_width) {
      const vec weight = exp_below(load(scores + i) - base);
      sum += weight;
      store(scores + i, weight);
    }
    state.sum += sum_of(sum);
    observer_(queries_[row / group_].number, row % group_,
              std::span<const std::uint32_t>(tile.blocks).first(tile.count), masks, scores, state.max);
  }

  /// Adds `count` blocks of values to Rows rows, from row `first` of the active ones on.
  template <std::size_t Rows>
  void add_some(const std::byte* const* blocks, std::size_t count, std::size_t first, prefetch_window& ahead) noexcept {
    const std::uint16_t* const masks = masks_of(scratch_.active[first] / group_);
    std::array<const float*, Rows> weights;
    std::array<float*, Rows> accumulated;
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::size_t row = scratch_.active[first + r];
      weights[r] = scores_of(row);
      accumulated[r] = state_of(row).accumulated.data();
    }
    if constexpr (adds_integers) {
      for (std::size_t g = 0; g < dim_ / quant_group; ++g) {
        add_integer_values<value_codec, Rows>(blocks, masks, count, dim_, g, weights.data(), accumulated.data(), ahead);
      }
      return;
    }
    std::size_t c = 0;
    const auto stripes = [&]<std::size_t Vectors>() {
      for (; c + Vectors * vec_width <= dim_; c += Vectors * vec_width) {
        add_values<added_codec, Rows, Vectors>(blocks, masks, count, dim_, c, weights.data(), accumulated.data(),
                                               ahead);
      }
    };
    stripes.template operator()<value_vectors>();
    stripes.template operator()<1>();
    if constexpr (!added_codec::integer) {
      if (c == dim_) return;
      if (dim_ < vec_width) {
        for (std::size_t r = 0; r < Rows; ++r) {
          add_values_rest<added_codec>(blocks, masks, count, dim_, c, weights[r], accumulated[r]);
        }
        return;
      }
      // The last vector overlaps what is done, which is put back.
      const std::size_t last = dim_ - vec_width;
      std::array<std::array<float, vec_width>, Rows> done;
      for (std::size_t r = 0; r < Rows; ++r) std::copy(accumulated[r] + last, accumulated[r] + c, done[r].begin());
      add_values<added_codec, Rows, 1>(blocks, masks, count, dim_, last, weights.data(), accumulated.data(), ahead);
      for (std::size_t r = 0; r < Rows; ++r) {
        std::copy(done[r].begin(), done[r].begin() + static_cast<std::ptrdiff_t>(c - last), accumulated[r] + last);
      }
    }
  }

  [[nodiscard]] bool read_alike(const tile_plan& tile, std::size_t a, std::size_t b) const noexcept {
    return a == b || std::equal(masks_of(a), masks_of(a) + tile.count, masks_of(b));
  }

  void add_keys(prefetch_window& ahead, const Lane& lane, const tile_plan& tile) const noexcept {
    for (std::size_t b = 0; b < tile.count; ++b) {
      ahead.add(lane.key_block(tile.blocks[b]), key_codec::key_block_bytes(dim_));
    }
  }

  /// Adds the values of a tile, whose weights are in scratch. Meanwhile the keys that come next are fetched, as the values
  /// were while keys were scored. Integers are scored too fast for that: they are fetched one tile ahead, keys while keys
  /// are scored and values while values are added.
  void add(const tile_plan& tile, const Lane& next_lane, const tile_plan& next) noexcept {
    std::array<const std::byte*, most_tile_blocks> blocks;
    prefetch_window ahead;
    for (std::size_t b = 0; b < tile.count; ++b) {
      blocks[b] = lane_.value_block(tile.blocks[b]);
      if constexpr (decodes_values) {
        float* const room = scratch_.values.data() + b * dim_ * block_tokens;
        blocks[b] = reinterpret_cast<const std::byte*>(value_codec::values(blocks[b], dim_, room));
      }
    }
    if constexpr (adds_integers) {
      for (std::size_t b = 0; b < next.count; ++b) {
        ahead.add(next_lane.value_block(next.blocks[b]), value_codec::value_block_bytes(dim_));
      }
    } else {
      add_keys(ahead, next_lane, next);
    }
    const std::size_t turns = adds_integers
                                  ? dim_ / quant_group * (block_tokens / 4)
                                  : std::max<std::size_t>(dim_ / (value_vectors * vec_width), 1) * block_tokens;
    ahead.spread((active_ + rows_at_once - 1) / rows_at_once * tile.count * turns);
    // Rows that read the same keys of the tile go together.
    for (std::size_t i = 0; i < active_;) {
      std::size_t alike = 1;
      const std::size_t query = scratch_.active[i] / group_;
      while (i + alike < active_ && read_alike(tile, scratch_.active[i + alike] / group_, query)) ++alike;
      by_groups<rows_at_once>(alike, [&]<std::size_t Rows>(std::size_t first) {
        add_some<Rows>(blocks.data(), tile.count, i + first, ahead);
      });
      i += alike;
    }
  }

  /// Blocks that are scored side by side: integers need twice the registers.
  static constexpr std::size_t score_together =
      (integers || turned) && blocks_at_once > 1 ? blocks_at_once / 2 : blocks_at_once;

  Lane lane_;
  std::span<const query_run> queries_;
  const score_options& options_;
  const Keys& keys_;
  Observer observer_;
  std::size_t group_;
  std::size_t dim_;
  attend_scratch scratch_;
  std::size_t active_ = 0;  // rows that read something of the tile
};

}  // namespace detail

KVKEEP_NAMESPACE_END

#endif
