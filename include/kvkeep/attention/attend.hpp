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

/// Scratch of attend for one thread.
struct attend_scratch {
  std::span<float> turned{};  ///< the queries of a group turned to one angle and scaled, [group][head_dim]
  std::span<float> scores{};  ///< scores of one block, [group][16]
  std::span<float> block{};   ///< one block of keys decoded, [head_dim][16]; also room for a value row
};

namespace detail {

/// Adds the keys of one block, whose scores are in scratch.scores, to the states of the group.
template <class Lane>
void add_block(const Lane& lane, std::uint32_t block, std::uint32_t mask, const attend_scratch& scratch,
               std::span<softmax_state> states) noexcept {
  const std::size_t dim = lane.head_dim();
  const std::byte* const stored = lane.value_block(block);
  for (std::size_t g = 0; g < states.size(); ++g) {
    float* const score = scratch.scores.data() + g * block_tokens;
    softmax_state& state = states[g];
    float top = state.max;
    for (std::size_t r = 0; r < block_tokens; ++r) {
      if ((mask >> r & 1U) != 0 && score[r] > top) top = score[r];
    }
    float* const sum = state.accumulated.data();
    if (top > state.max) {
      const float shrink = exp_below(state.max - top);
      state.sum *= shrink;
      for (std::size_t c = 0; c < dim; ++c) sum[c] *= shrink;
      state.max = top;
    }
    for (std::size_t r = 0; r < block_tokens; ++r) score[r] = exp_below(score[r] - top);
    for (std::uint32_t left = mask; left != 0; left &= left - 1) {
      const auto r = static_cast<std::size_t>(std::countr_zero(left));
      const float* const value = Lane::value_codec::value(stored, r, dim, scratch.block.data());
      const float weight = score[r];
      state.sum += weight;
      for (std::size_t c = 0; c < dim; ++c) sum[c] += weight * value[c];
    }
  }
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

/// scores[g][r] = turned[g] . key r for the 16 keys of a block, keys [head_dim][16].
inline void block_scores(const float* keys, const float* turned, std::size_t group, std::size_t dim,
                         float* scores) noexcept {
  for (std::size_t g = 0; g < group; ++g) {
    float sum[block_tokens] = {};
    const float* const query = turned + g * dim;
    for (std::size_t c = 0; c < dim; ++c) {
      const float q = query[c];
      const float* const row = keys + c * block_tokens;
      for (std::size_t r = 0; r < block_tokens; ++r) sum[r] += q * row[r];
    }
    for (std::size_t r = 0; r < block_tokens; ++r) scores[g * block_tokens + r] = sum[r];
  }
}

}  // namespace detail

/// Attends over spans that share one angle. scratch.turned holds the queries of the group turned to that angle and
/// multiplied by options.scale, [group][head_dim]; states [group] are added to. group = states.size().
template <class Lane>
void attend_run(const Lane& lane, std::span<const key_span> spans, std::span<const position> distance,
                const score_options& options, const attend_scratch& scratch, std::span<softmax_state> states) noexcept {
  const std::size_t dim = lane.head_dim();
  for (const key_span& one : spans) {
    const float* const keys = Lane::key_codec::keys(lane.key_block(one.block), dim, scratch.block.data());
    detail::block_scores(keys, scratch.turned.data(), states.size(), dim, scratch.scores.data());
    detail::finish_scores(options, one.block, distance, states.size(), scratch.scores.data());
    detail::add_block(lane, one.block, one.mask, scratch, states);
  }
}

/// Attends over all that a query reads, the query turned once per angle.
/// `turn(angle, g, out)` writes query head g of the group, turned and scaled, to out [head_dim].
template <class Lane, class Turn>
void attend(const Lane& lane, const query_view& view, const Turn& turn, const score_options& options,
            const attend_scratch& scratch, std::span<softmax_state> states) noexcept {
  const std::size_t dim = lane.head_dim();
  for (std::size_t first = 0; first < view.spans.size();) {
    const position angle = view.spans[first].angle;
    std::size_t last = first + 1;
    while (last < view.spans.size() && view.spans[last].angle == angle) ++last;
    for (std::size_t g = 0; g < states.size(); ++g) turn(angle, g, scratch.turned.subspan(g * dim, dim));
    attend_run(lane, view.spans.subspan(first, last - first), view.distance, options, scratch, states);
    first = last;
  }
}

/// Attends over all that a query reads where every key has a distance of its own: keys are stored raw and turned as they
/// are read. scratch.turned holds the queries of the group as they come, scaled. `turn_block(keys, distances, mask, out)`
/// turns the keys of a block, [head_dim][16], backwards by their distances [16] into out of the same shape.
template <class Lane, class TurnBlock>
void attend_scattered(const Lane& lane, const query_view& view, const TurnBlock& turn_block,
                      const score_options& options, const attend_scratch& scratch,
                      std::span<softmax_state> states) noexcept {
  const std::size_t dim = lane.head_dim();
  for (const key_span& one : view.spans) {
    const float* const keys = Lane::key_codec::keys(lane.key_block(one.block), dim, scratch.block.data());
    turn_block(keys, view.distance.data() + std::size_t{one.block} * block_tokens, one.mask, scratch.block.data());
    detail::block_scores(scratch.block.data(), scratch.turned.data(), states.size(), dim, scratch.scores.data());
    detail::finish_scores(options, one.block, view.distance, states.size(), scratch.scores.data());
    detail::add_block(lane, one.block, one.mask, scratch, states);
  }
}

KVKEEP_NAMESPACE_END

#endif
