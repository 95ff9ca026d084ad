// attend: one pass over the keys that a query reads, with an online softmax, for the query heads of one kv head.
//
// Works on spans of slots: the query is turned once per angle and all its spans are read with it (keys stored rotated or
// raw), or the keys are turned as they are read (scattered distances). Never forms the matrix of all scores. Scores,
// softmax and sums in fp32. A slot that is not read contributes nothing, whatever bytes it holds; a non-finite row
// changes only the outputs of the queries that read it.
#ifndef KVKEEP_ATTENTION_ATTEND_HPP
#define KVKEEP_ATTENTION_ATTEND_HPP

#include <bit>
#include <cmath>
#include <cstddef>
#include <span>

#include "kvkeep/attention/exp.hpp"
#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/attention/softmax_state.hpp"
#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What a score is besides the dot product.
struct score_options {
  float scale = 1.0F;               ///< on q . k; 1 / sqrt(head_dim) unless the model says otherwise
  float softcap = 0.0F;             ///< softcap * tanh(score / softcap); 0: none
  std::span<const float> slopes{};  ///< ALiBi slopes of the group's heads, [group]; empty: none
};

/// The observer that wants to know nothing. An observer is told the finished scores of every block before they become
/// weights: observer(block, mask, scores [group][16], states [group]); a row counts where its bit of mask is set. What
/// policies ask of the kernel (attention mass, rows of weights) is made from these and the states' final log_sum_exp().
struct no_observer {
  void operator()(std::uint32_t, std::uint32_t, const float*, std::span<const softmax_state>) const noexcept {}
};

/// Scratch of attend for one thread.
struct attend_scratch {
  std::span<float> turned{};  ///< the queries of a group turned to one angle and scaled, [group][head_dim]
  std::span<float> scores{};  ///< scores of one block, [group][16]
  std::span<float> block{};   ///< one block decoded: keys [head_dim][16], then values [16][head_dim]
};

namespace detail {

/// Heads of a group that are worked on together, so that a row of keys or values is read once for all of them.
inline constexpr std::size_t heads_at_once = 4;
/// Components of an output that are summed in registers.
inline constexpr std::size_t components_at_once = 16;

/// Calls f<n>(first) for runs of n = 4, 2 or 1 heads that make up a group.
template <class F>
inline void for_heads(std::size_t group, const F& f) noexcept {
  std::size_t g = 0;
  for (; g + heads_at_once <= group; g += heads_at_once) f.template operator()<heads_at_once>(g);
  if (group - g >= 2) {
    f.template operator()<2>(g);
    g += 2;
  }
  if (g < group) f.template operator()<1>(g);
}

/// Raises the maximum of a state to that of the scores of the rows in mask, and turns scores [16] into weights.
inline void soften(float* scores, std::uint32_t mask, softmax_state& state) noexcept {
  float top = state.max;
  for (std::size_t r = 0; r < block_tokens; ++r) {
    if ((mask >> r & 1U) != 0 && scores[r] > top) top = scores[r];
  }
  if (top > state.max) {
    const float shrink = exp_below(state.max - top);
    state.sum *= shrink;
    for (float& x : state.accumulated) x *= shrink;
    state.max = top;
  }
  for (std::size_t r = 0; r < block_tokens; ++r) scores[r] = exp_below(scores[r] - top);
  for (std::uint32_t left = mask; left != 0; left &= left - 1) state.sum += scores[std::countr_zero(left)];
}

/// Adds the values of the rows in mask, times their weights, to Heads accumulators, components first .. first + Width - 1.
template <std::size_t Heads, std::size_t Width>
inline void add_values(const float* values, const float* weights, std::uint32_t mask, std::size_t dim,
                       std::size_t first, std::span<softmax_state> states) noexcept {
  float sum[Heads][Width];
  for (std::size_t g = 0; g < Heads; ++g) {
    for (std::size_t c = 0; c < Width; ++c) sum[g][c] = states[g].accumulated[first + c];
  }
  for (std::uint32_t left = mask; left != 0; left &= left - 1) {
    const auto r = static_cast<std::size_t>(std::countr_zero(left));
    const float* const row = values + r * dim + first;
    for (std::size_t g = 0; g < Heads; ++g) {
      const float weight = weights[g * block_tokens + r];
      for (std::size_t c = 0; c < Width; ++c) sum[g][c] += weight * row[c];
    }
  }
  for (std::size_t g = 0; g < Heads; ++g) {
    for (std::size_t c = 0; c < Width; ++c) states[g].accumulated[first + c] = sum[g][c];
  }
}

/// scores[g][r] = turned[g] . key r for the 16 keys of a block and Heads heads, keys [head_dim][16].
template <std::size_t Heads>
inline void dot_keys(const float* keys, const float* turned, std::size_t dim, float* scores) noexcept {
  float sum[Heads][block_tokens] = {};
  for (std::size_t c = 0; c < dim; ++c) {
    const float* const row = keys + c * block_tokens;
    for (std::size_t g = 0; g < Heads; ++g) {
      const float query = turned[g * dim + c];
      for (std::size_t r = 0; r < block_tokens; ++r) sum[g][r] += query * row[r];
    }
  }
  for (std::size_t g = 0; g < Heads; ++g) {
    for (std::size_t r = 0; r < block_tokens; ++r) scores[g * block_tokens + r] = sum[g][r];
  }
}

/// Adds the keys of one block, whose scores [group][16] are in scratch, to the states of the group.
template <class Lane>
void add_block(const Lane& lane, std::uint32_t block, std::uint32_t mask, const attend_scratch& scratch,
               std::span<softmax_state> states) noexcept {
  const std::size_t dim = lane.head_dim();
  float* const weights = scratch.scores.data();
  for (std::size_t g = 0; g < states.size(); ++g) soften(weights + g * block_tokens, mask, states[g]);
  const float* const values = Lane::value_codec::values(lane.value_block(block), dim, scratch.block.data());
  for_heads(states.size(), [&]<std::size_t Heads>(std::size_t g) {
    const std::span<softmax_state> some = states.subspan(g, Heads);
    std::size_t c = 0;
    for (; c + components_at_once <= dim; c += components_at_once) {
      add_values<Heads, components_at_once>(values, weights + g * block_tokens, mask, dim, c, some);
    }
    for (; c < dim; ++c) add_values<Heads, 1>(values, weights + g * block_tokens, mask, dim, c, some);
  });
}

/// Softcap and ALiBi on the scores of one block.
inline void finish_scores(const score_options& options, std::uint32_t block, std::span<const position> distance,
                          std::size_t group, float* scores) noexcept {
  if (options.softcap > 0.0F) {
    for (std::size_t i = 0; i < group * block_tokens; ++i) {
      scores[i] = options.softcap * std::tanh(scores[i] / options.softcap);
    }
  }
  if (!options.slopes.empty()) {
    const position* const away = distance.data() + std::size_t{block} * block_tokens;
    for (std::size_t g = 0; g < group; ++g) {
      for (std::size_t r = 0; r < block_tokens; ++r) {
        scores[g * block_tokens + r] -= options.slopes[g] * static_cast<float>(away[r]);
      }
    }
  }
}

/// The scores of all heads of a group, [group][16].
inline void block_scores(const float* keys, const float* turned, std::size_t group, std::size_t dim,
                         float* scores) noexcept {
  for_heads(group, [&]<std::size_t Heads>(std::size_t g) {
    dot_keys<Heads>(keys, turned + g * dim, dim, scores + g * block_tokens);
  });
}

}  // namespace detail

/// Attends over spans that share one angle. scratch.turned holds the queries of the group turned to that angle and
/// multiplied by options.scale, [group][head_dim]; states [group] are added to. group = states.size().
template <class Lane, class Observer = no_observer>
void attend_run(const Lane& lane, std::span<const key_span> spans, std::span<const position> distance,
                const score_options& options, const attend_scratch& scratch, std::span<softmax_state> states,
                const Observer& observer = {}) noexcept {
  const std::size_t dim = lane.head_dim();
  for (const key_span& one : spans) {
    const float* const keys = Lane::key_codec::keys(lane.key_block(one.block), dim, scratch.block.data());
    detail::block_scores(keys, scratch.turned.data(), states.size(), dim, scratch.scores.data());
    detail::finish_scores(options, one.block, distance, states.size(), scratch.scores.data());
    observer(one.block, one.mask, scratch.scores.data(), states);
    detail::add_block(lane, one.block, one.mask, scratch, states);
  }
}

/// Attends over all that a query reads, the query turned once per angle.
/// `turn(angle, g, out)` writes query head g of the group, turned and scaled, to out [head_dim]; it must not throw.
/// Lane is a lane_view. states [group] must have accumulators of head_dim floats; they are added to.
template <class Lane, class Turn, class Observer = no_observer>
void attend(const Lane& lane, const query_view& view, const Turn& turn, const score_options& options,
            const attend_scratch& scratch, std::span<softmax_state> states, const Observer& observer = {}) noexcept {
  const std::size_t dim = lane.head_dim();
  for (std::size_t first = 0; first < view.spans.size();) {
    const position angle = view.spans[first].angle;
    std::size_t last = first + 1;
    while (last < view.spans.size() && view.spans[last].angle == angle) ++last;
    for (std::size_t g = 0; g < states.size(); ++g) turn(angle, g, scratch.turned.subspan(g * dim, dim));
    attend_run(lane, view.spans.subspan(first, last - first), view.distance, options, scratch, states, observer);
    first = last;
  }
}

/// Attends over all that a query reads where every key has a distance of its own: keys are stored raw and turned as they
/// are read. scratch.turned holds the queries of the group as they come, scaled. `turn_block(keys, distances, mask, out)`
/// turns the keys of a block, [head_dim][16], backwards by their distances [16] into out of the same shape.
template <class Lane, class TurnBlock, class Observer = no_observer>
void attend_scattered(const Lane& lane, const query_view& view, const TurnBlock& turn_block,
                      const score_options& options, const attend_scratch& scratch, std::span<softmax_state> states,
                      const Observer& observer = {}) noexcept {
  const std::size_t dim = lane.head_dim();
  for (const key_span& one : view.spans) {
    const float* const keys = Lane::key_codec::keys(lane.key_block(one.block), dim, scratch.block.data());
    turn_block(keys, view.distance.data() + std::size_t{one.block} * block_tokens, one.mask, scratch.block.data());
    detail::block_scores(scratch.block.data(), scratch.turned.data(), states.size(), dim, scratch.scores.data());
    detail::finish_scores(options, one.block, view.distance, states.size(), scratch.scores.data());
    observer(one.block, one.mask, scratch.scores.data(), states);
    detail::add_block(lane, one.block, one.mask, scratch, states);
  }
}

KVKEEP_NAMESPACE_END

#endif
