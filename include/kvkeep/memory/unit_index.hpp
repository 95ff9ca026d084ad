// unit_index: the representatives of memory units, and the lookup of the units that matter to a query.
//
// A lookup is exact: its units, and their order, are those of the fp32 scores of all units, ties: the older. Among more than
// unit_index::learned units it computes few of them: vectors in bytes bound every score, and only those are computed that may
// be among the best. That reads 9/32 of the vectors' bytes, and some vectors; where the bounds leave many, as among vectors that
// are all alike, it reads more, up to all of them.
//
// With candidates a lookup is not exact. Estimates get better and fewer: where vectors are long, of all units from 128 bytes each;
// of the best of those, a sixteenth or 4 times the candidates, from half bytes; of the best of these, as many as there are
// candidates, the fp32 scores. It misses a unit whose estimate was worse than those of so many others.
#ifndef KVKEEP_MEMORY_UNIT_INDEX_HPP
#define KVKEEP_MEMORY_UNIT_INDEX_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/top_k.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/detail/simd.hpp"
#include "kvkeep/memory/byte_shadow.hpp"
#include "kvkeep/memory/dot_rows.hpp"
#include "kvkeep/memory/row_sketch.hpp"
#include "kvkeep/memory/side_by_side.hpp"
#include "kvkeep/memory/vector_sketch.hpp"
#include "kvkeep/policy/select/retrieve_blocks.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// One vector a unit, layer and query head, and the tokens it was made of.
class unit_index {
 public:
  /// Units whose vectors tell what others will be like; among fewer, every score is computed.
  static constexpr std::size_t learned = learned_units;

  /// candidates: 0, and lookups are exact; or what a lookup takes a close look at.
  void lay_out(arena& memory, const model_shape& shape, std::size_t layers, std::size_t units,
               std::size_t representatives, std::size_t choosers, std::size_t candidates) {
    heads_ = shape.query_heads;
    dim_ = shape.head_dim;
    units_ = units;
    most_ = representatives;
    choosers_ = choosers;
    vectors_ = memory.take<float>(layers * units * heads_ * dim_);
    offsets_ = memory.take<std::uint32_t>(layers * units * heads_ * most_);
    counts_ = memory.take<std::uint32_t>(layers * units * heads_);
    candidates_ = candidates;
    sketched_ = units > learned && candidates > 0;
    shadowed_ = units > learned && candidates == 0 && heads_ * dim_ / choosers <= byte_shadow::longest;
    if (sketched_) sketch_.lay_out(memory, shape, layers, units, choosers);
    coarse_ = sketched_ && sketch_.components() >= 3 * row_sketch::parts && closer_look(units) < units;
    if (coarse_) rows_.lay_out(memory, layers, units, choosers, heads_ * dim_ / choosers);
    if (shadowed_) {
      shadow_.lay_out(memory, layers, units, choosers, heads_ * dim_ / choosers);
      upper_ = memory.take<float>(units);
    }
    if (sketched_ || shadowed_) list_ = memory.take<std::uint32_t>(units);
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
  /// Heads and units come in order; what was represented in a step that was abandoned is represented again.
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
    if (query_head + 1 == heads_) encode(layer, unit);
  }

  /// The `count` units among the first `available` that a chooser scores highest, best first, ties: the older; no more than
  /// candidates, if there are any. Queries are
  /// [query_heads][head_dim], live(unit) tells whether anything is left of a unit.
  template <class Live>
  std::span<const std::uint32_t> look_up(std::size_t layer, std::size_t chooser, const float* queries,
                                         std::size_t available, std::size_t count, const Live& live) {
    const std::size_t length = heads_ * dim_ / choosers_;
    const float* const query = queries + chooser * length;
    const auto row_of = [&](std::size_t unit) {
      return vectors_.data() + place(layer, unit, 0) * dim_ + chooser * length;
    };
    // Scores of units unit_of(0) .. unit_of(among - 1).
    const auto score = [&](std::size_t among, const auto& unit_of) {
      side_by_side(among, [&](const stretch_places& at) {
        std::array<const float*, stretches> rows;
        for (std::size_t j = 0; j < stretches; ++j) rows[j] = row_of(unit_of(at[j]));
        const auto scores = dot_rows(query, rows, length);
        for (std::size_t j = 0; j < stretches; ++j) {
          scores_[at[j]] = live(unit_of(at[j])) ? scores[j] : -std::numeric_limits<float>::infinity();
        }
      });
    };
    std::size_t left = available;  // that may be among the best
    if (available > (std::max)(learned, count)) {
      if (sketched_ && candidates_ < available && sketch_.ask(layer, chooser, query)) {
        left = keep_candidates(layer, chooser, query, available, live);
      } else if (shadowed_ && shadow_.ask(layer, chooser, query)) {
        left = keep_possible(layer, chooser, available, count, live);
      }
    }
    if (left == available) {
      const auto itself = [](std::size_t i) { return static_cast<std::uint32_t>(i); };
      score(available, itself);
      return best(available, count, itself);
    }
    const auto listed = [&](std::size_t i) { return list_[i]; };
    score(left, listed);
    return best(left, count, listed);
  }

 private:
  /// Encodes a unit that has all its vectors; the last of those that are learned from, all so far.
  void encode(std::size_t layer, std::size_t unit) noexcept {
    const float* const all = vectors_.data() + place(layer, 0, 0) * dim_;
    if (unit + 1 < learned) return;
    if (unit + 1 == learned && shadowed_) shadow_.learn(layer, all, learned);
    if (unit + 1 == learned && sketched_) sketch_.learn(layer, all, learned);
    if (unit + 1 == learned && coarse_) rows_.learn(layer, all);
    for (std::size_t u = unit + 1 == learned ? 0 : unit; u <= unit; ++u) {
      if (shadowed_) shadow_.encode(layer, u, all + u * heads_ * dim_);
      if (sketched_) sketch_.encode(layer, u, all + u * heads_ * dim_);
      if (coarse_) rows_.encode(layer, u, all + u * heads_ * dim_);
    }
  }

  /// Units whose half bytes are read, of so many.
  [[nodiscard]] std::size_t closer_look(std::size_t available) const noexcept {
    return (std::max)(4 * candidates_, available / 16);
  }
  /// Fills list_ with the units of the best estimates, the older first; how many.
  template <class Live>
  std::size_t keep_candidates(std::size_t layer, std::size_t chooser, const float* query, std::size_t available,
                              const Live& live) {
    const auto forget_dead = [&](std::size_t count, const auto& unit_of) {
      for (std::size_t i = 0; i < count; ++i) {
        if (!live(unit_of(i))) scores_[i] = std::numeric_limits<float>::lowest();
      }
    };
    const auto itself = [](std::size_t i) { return i; };
    const auto listed = [&](std::size_t i) -> std::size_t { return list_[i]; };
    const std::size_t closer = closer_look(available);
    if (!coarse_ || closer >= available || !rows_.ask(layer, chooser, query)) {
      sketch_.estimate(layer, chooser, available, itself, scores_.data());
      forget_dead(available, itself);
      return (*try_top_k(scores_.first(available), candidates_, list_, scratch_)).size();
    }
    rows_.estimate(layer, chooser, available, scores_.data());
    forget_dead(available, itself);
    static_cast<void>(*try_top_k(scores_.first(available), closer, list_, scratch_));
    sketch_.estimate(layer, chooser, closer, listed, scores_.data());
    forget_dead(closer, listed);
    const std::span<std::uint32_t> kept = *try_top_k(scores_.first(closer), candidates_, best_, scratch_);
    for (std::size_t i = 0; i < kept.size(); ++i) list_[i] = list_[kept[i]];  // never behind i: they ascend
    return kept.size();
  }

  /// Fills list_ with the units that may be among the best `count`, the older first; how many.
  template <class Live>
  std::size_t keep_possible(std::size_t layer, std::size_t chooser, std::size_t available, std::size_t count,
                            const Live& live) {
    constexpr float lowest = std::numeric_limits<float>::lowest();
    // The additions that dot_rows makes one after the other, at most.
    const std::size_t adds = heads_ * dim_ / choosers_ / (4 * vec_width) + vec_width + 12;
    shadow_.bound(layer, chooser, available, adds, scores_.data(), upper_.data());
    for (std::size_t unit = 0; unit < available; ++unit) {
      if (!live(unit)) scores_[unit] = upper_[unit] = lowest;
    }
    // So many are at least as good as this.
    const std::span<std::uint32_t> surest = *try_top_k(scores_.first(available), count, best_, scratch_);
    float least = (std::numeric_limits<float>::max)();
    for (const std::uint32_t unit : surest) least = (std::min)(least, scores_[unit]);
    std::size_t left = 0;
    for (std::size_t unit = 0; unit < available; ++unit) {
      if (upper_[unit] >= least) list_[left++] = static_cast<std::uint32_t>(unit);
    }
    return left;
  }

  /// The units of the best `count` of the first scores, which are those of unit_of(0), unit_of(1), ..., the older first.
  template <class UnitOf>
  std::span<const std::uint32_t> best(std::size_t among, std::size_t count, const UnitOf& unit_of) {
    const std::span<std::uint32_t> chosen = *try_top_k(scores_.first(among), (std::min)(count, among), best_, scratch_);
    const auto rank = [&](std::uint32_t i) {  // NaN is the last choice
      return is_nan(scores_[i]) ? -std::numeric_limits<float>::infinity() : scores_[i];
    };
    std::sort(chosen.begin(), chosen.end(),
              [&](std::uint32_t a, std::uint32_t b) { return rank(a) > rank(b) || (rank(a) == rank(b) && a < b); });
    for (std::uint32_t& i : chosen) i = unit_of(i);
    return chosen;
  }

  [[nodiscard]] std::size_t place(std::size_t layer, std::size_t unit, std::size_t query_head) const noexcept {
    return (layer * units_ + unit) * heads_ + query_head;
  }

  std::size_t heads_ = 0;
  std::size_t dim_ = 0;
  std::size_t units_ = 0;
  std::size_t most_ = 0;      // representatives
  std::size_t choosers_ = 1;  // of a layer
  std::size_t candidates_ = 0;
  bool shadowed_ = false;             // lookups are exact, and there may be more units than are learned from
  bool sketched_ = false;             // lookups are not exact
  bool coarse_ = false;               // and vectors are long
  std::span<float> vectors_;          // [layers][units][query_heads][head_dim]
  std::span<std::uint32_t> offsets_;  // [layers][units][query_heads][representatives]
  std::span<std::uint32_t> counts_;   // [layers][units][query_heads]: representatives there are
  std::span<float> scores_;           // [units]
  std::span<std::uint32_t> best_;     // [units]
  std::span<float> upper_;            // [units]
  std::span<std::uint32_t> list_;     // [units]: those that may be among the best
  std::span<std::uint32_t> scratch_;
  byte_shadow shadow_;
  vector_sketch sketch_;
  row_sketch rows_;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
