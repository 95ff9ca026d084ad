// softmax_state: the partial result of attention over some keys, and the monoid that joins partial results.
//
// Tiles, branches, threads and machines each produce one; merge() joins them. The empty state is the identity bit for
// bit, merge is commutative bit for bit and associative to 4 ulp of the largest term.
#ifndef KVKEEP_ATTENTION_SOFTMAX_STATE_HPP
#define KVKEEP_ATTENTION_SOFTMAX_STATE_HPP

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "kvkeep/core/config.hpp"
#include "kvkeep/detail/exp.hpp"

KVKEEP_NAMESPACE_BEGIN

/// The state of one query and head. It does not own its accumulator.
struct softmax_state {
  float max = std::numeric_limits<float>::lowest();  ///< largest score so far; lowest() when empty
  float sum = 0.0F;                                  ///< sum of e^(score - max)
  std::span<float> accumulated{};                    ///< sum of e^(score - max) * value, [head_dim]

  [[nodiscard]] bool empty() const noexcept { return sum == 0.0F && max == std::numeric_limits<float>::lowest(); }
  /// Forgets everything: the identity of merge.
  void clear() noexcept {
    max = std::numeric_limits<float>::lowest();
    sum = 0.0F;
    for (float& x : accumulated) x = 0.0F;
  }
  /// ln of the sum of e^score over all keys seen.
  [[nodiscard]] float log_sum_exp() const noexcept { return max + std::log(sum); }
  /// The attention output, out [head_dim]; NaN where no key was seen.
  void finish(std::span<float> out) const noexcept {
    for (std::size_t c = 0; c < accumulated.size(); ++c) out[c] = accumulated[c] / sum;
  }
};

/// into = into joined with other; both over head_dim components, over disjoint keys of the same query.
inline void merge(softmax_state& into, const softmax_state& other) noexcept {
  if (other.empty()) return;
  if (into.empty()) {
    into.max = other.max;
    into.sum = other.sum;
    for (std::size_t c = 0; c < into.accumulated.size(); ++c) into.accumulated[c] = other.accumulated[c];
    return;
  }
  // The side with the larger maximum is taken as it is and the other scaled, whichever side it stands on: so the result
  // has the same bits in both orders, with or without fused multiply-add.
  if (other.max > into.max) {
    const float scale = detail::exp_below(into.max - other.max);
    into.sum = other.sum + scale * into.sum;
    for (std::size_t c = 0; c < into.accumulated.size(); ++c) {
      into.accumulated[c] = other.accumulated[c] + scale * into.accumulated[c];
    }
    into.max = other.max;
  } else if (other.max == into.max) {
    into.sum += other.sum;
    for (std::size_t c = 0; c < into.accumulated.size(); ++c) into.accumulated[c] += other.accumulated[c];
  } else {
    const float scale = detail::exp_below(other.max - into.max);
    into.sum = into.sum + scale * other.sum;
    for (std::size_t c = 0; c < into.accumulated.size(); ++c) {
      into.accumulated[c] = into.accumulated[c] + scale * other.accumulated[c];
    }
  }
}

KVKEEP_NAMESPACE_END

#endif
