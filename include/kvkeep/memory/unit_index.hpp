// unit_index: the representatives of memory units, and the lookup of the units that matter to a query.
#ifndef KVKEEP_MEMORY_UNIT_INDEX_HPP
#define KVKEEP_MEMORY_UNIT_INDEX_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/top_k.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The dot product of two rows, fp32 accumulation.
[[nodiscard]] inline float dot_rows(const float* a, const float* b, std::size_t count) noexcept {
  vec sums[4] = {};
  std::size_t i = 0;
  for (; i + 4 * vec_width <= count; i += 4 * vec_width) {
    for (std::size_t j = 0; j < 4; ++j) sums[j] += load(a + i + j * vec_width) * load(b + i + j * vec_width);
  }
  for (; i + vec_width <= count; i += vec_width) sums[0] += load(a + i) * load(b + i);
  float rest = 0.0F;
  for (; i < count; ++i) rest += a[i] * b[i];
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest;
}

/// One vector a unit, layer and query head, and the tokens it was made of.
class unit_index {
 public:
  void lay_out(arena& memory, const model_shape& shape, std::size_t layers, std::size_t units,
               std::size_t representatives, std::size_t choosers) {
    heads_ = shape.query_heads;
    dim_ = shape.head_dim;
    units_ = units;
    most_ = representatives;
    choosers_ = choosers;
    vectors_ = memory.take<float>(layers * units * heads_ * dim_);
    offsets_ = memory.take<std::uint32_t>(layers * units * heads_ * most_);
    counts_ = memory.take<std::uint32_t>(layers * units * heads_);
    scores_ = memory.take<float>(units);
    best_ = memory.take<std::uint32_t>(units);
    scratch_ = memory.take<std::uint32_t>(top_k_scratch(units));
  }

  /// The vector of a unit, layer and query head, [head_dim].
  [[nodiscard]] std::span<float> vector(std::size_t layer, std::size_t unit, std::size_t query_head) const noexcept {
    return vectors_.subspan(place(layer, unit, query_head) * dim_, dim_);
  }
  /// The tokens that it is the mean of, as places in the unit, the best first.
  [[nodiscard]] std::span<const std::uint32_t> offsets(std::size_t layer, std::size_t unit,
                                                       std::size_t query_head) const noexcept {
    const std::size_t at = place(layer, unit, query_head);
    return offsets_.subspan(at * most_, counts_[at]);
  }

  /// Represents a unit by the best of `masses`, [tokens]; key_of(token, row) reads a raw key, held(token) whether there is one.
  template <class Held, class KeyOf>
  void represent(std::size_t layer, std::size_t unit, std::size_t query_head, std::span<const float> masses,
                 const Held& held, const KeyOf& key_of, std::span<float> row) {
    const std::size_t at = place(layer, unit, query_head);
    const std::span<std::uint32_t> best = offsets_.subspan(at * most_, most_);
    std::size_t count = 0;
    for (std::size_t token = 0; token < masses.size(); ++token) {
      if (!held(token)) continue;
      std::size_t to = count < most_ ? count++ : most_;  // where it would be the last
      while (to > 0 && masses[token] > masses[best[to - 1]]) {
        if (to < most_) best[to] = best[to - 1];
        --to;
      }
      if (to < most_) best[to] = static_cast<std::uint32_t>(token);
    }
    counts_[at] = static_cast<std::uint32_t>(count);
    const std::span<float> mean = vector(layer, unit, query_head);
    std::fill(mean.begin(), mean.end(), 0.0F);
    for (const std::uint32_t token : best.first(count)) {
      key_of(token, row);
      for (std::size_t c = 0; c < dim_; ++c) mean[c] += row[c];
    }
    for (float& x : mean) x /= static_cast<float>(std::max<std::size_t>(count, 1));
  }

  /// The units among the first `available` that a chooser scores highest, best first, ties: the older; queries are
  /// [query_heads][head_dim], live(unit) tells whether anything is left of a unit.
  template <class Live>
  std::span<const std::uint32_t> look_up(std::size_t layer, std::size_t chooser, const float* queries,
                                         std::size_t available, std::size_t count, const Live& live) {
    const std::size_t length = heads_ * dim_ / choosers_;
    for (std::size_t unit = 0; unit < available; ++unit) {
      scores_[unit] = live(unit) ? dot_rows(queries + chooser * length,
                                            vectors_.data() + place(layer, unit, 0) * dim_ + chooser * length, length)
                                 : -std::numeric_limits<float>::infinity();
    }
    const std::span<std::uint32_t> chosen = *try_top_k(scores_.first(available), count, best_, scratch_);
    std::sort(chosen.begin(), chosen.end(), [&](std::uint32_t a, std::uint32_t b) {
      return scores_[a] > scores_[b] || (scores_[a] == scores_[b] && a < b);
    });
    return chosen;
  }

 private:
  [[nodiscard]] std::size_t place(std::size_t layer, std::size_t unit, std::size_t query_head) const noexcept {
    return (layer * units_ + unit) * heads_ + query_head;
  }

  std::size_t heads_ = 0;
  std::size_t dim_ = 0;
  std::size_t units_ = 0;
  std::size_t most_ = 0;              // representatives
  std::size_t choosers_ = 1;          // of a layer
  std::span<float> vectors_;          // [layers][units][query_heads][head_dim]
  std::span<std::uint32_t> offsets_;  // [layers][units][query_heads][representatives]
  std::span<std::uint32_t> counts_;   // [layers][units][query_heads]: representatives there are
  std::span<float> scores_;           // [units]
  std::span<std::uint32_t> best_;     // [units]
  std::span<std::uint32_t> scratch_;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
