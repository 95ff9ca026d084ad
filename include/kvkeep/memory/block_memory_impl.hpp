// block_memory_impl: the lookups of a memory of units, and what queries read of them. Included by block_memory.hpp.
#ifndef KVKEEP_MEMORY_BLOCK_MEMORY_IMPL_HPP
#define KVKEEP_MEMORY_BLOCK_MEMORY_IMPL_HPP

#include "kvkeep/memory/block_memory.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

template <class Turn, class LaneOf>
result<std::size_t> block_memory::choose(std::size_t first, std::size_t count, std::size_t begin, std::size_t end,
                                         const resident_tokens& tokens, position first_position, const Turn& turn,
                                         const LaneOf&) {
  const std::size_t units = available(first);
  resident_ = tokens;
  resident_from_ = first_position;
  spans_taken_ = 0;
  ahead_count_ = 0;
  if (tiered()) tiers.hot.begin_batch();
  if (scored()) attended.begin_batch();
  for (std::size_t t = first; t < first + count; ++t) {
    const bool looks_up = rules_.execution > 0 ? t == begin : is_due(first_position, t);
    if (t > first && looks_up && scored()) return t - first;  // scores take what was read since the lookup before
    const std::size_t until = rules_.execution > 0 ? end : t + 1;
    if (units <= rules_.count) {
      choose_all(units);
    } else if (looks_up) {
      look_up_mean(t, until, units, tokens, first_position, turn);
    }
    if (tiered()) {
      const std::span<const std::uint32_t> all = chosen_units();
      if (!tiers.hot.admit(layer_, all)) return t - first;  // there are frames for what one query reads
      const auto has_record = [&](std::uint32_t unit) { return unit < filed_ && units_.live(unit); };
      if (auto ok = tiers.fetch(layer_, all, looks_up, has_record); !ok) {
        const position lost = first_position + static_cast<position>(rules_.geometry.first_of(tiers.lost_unit()));
        return error{errc::io, "path",
                     fmt::format("{} (positions {} .. {}, layer {})", ok.error().message(), lost,
                                 lost + static_cast<position>(rules_.geometry.unit) - 1, rules_.layers.first + layer_)};
      }
      for (const std::uint32_t unit : ahead_.first(ahead_count_)) {
        if (has_record(unit)) tiers.read_ahead(layer_, unit);
      }
      ahead_count_ = 0;
    }
    const bool doubles = rules_.pending == pending_mask::authors;
    for (std::size_t c = 0; c < choosers_; ++c) {
      std::span<const key_span>& reads = reads_[(t - first) * choosers_ + c];
      if (t > first && rules_.execution > 0 && !doubles) {
        reads = reads_[c];
      } else {
        reads = list(c, t, end, tokens, first_position);
      }
    }
  }
  return count;
}

inline void block_memory::take_attended(const unit_mass::record_type& record, std::size_t kv_head,
                                        std::span<const softmax_state> states) noexcept {
  const std::size_t group = shape_.group();
  const auto reads = [&](std::size_t row) {
    const std::size_t head = kv_head * group + row % group;
    return reads_[row / group * choosers_ + head * choosers_ / shape_.query_heads];
  };
  attended.take(record, kv_head, states, reads, [&](std::size_t s) -> std::size_t {
    if (s / block_tokens >= blocks_) return units_.frame_of(s);
    const auto number = static_cast<std::size_t>(resident_.at[s] - resident_from_);
    if (number < rules_.geometry.sinks) return hot_units::nowhere;
    const std::size_t unit = (number - rules_.geometry.sinks) / rules_.geometry.unit;
    if (unit >= rules_.units()) return hot_units::nowhere;  // pending for ever
    const std::uint32_t frame = tiers.hot.frame_of(layer_, unit);
    return frame != hot_units::nowhere && tiers.hot.in_batch(tiers.hot.of(layer_)[frame]) ? frame : hot_units::nowhere;
  });
}

template <class LaneOf>
void block_memory::represent(std::size_t from, std::size_t to, const resident_tokens& tokens, position first_position,
                             const LaneOf& raw_lane_of) {
  const unit_geometry& g = rules_.geometry;
  for (std::size_t unit = g.complete(first_ + from); unit < g.complete(first_ + to); ++unit) {
    find_slots(unit, tokens, first_position);
    for (std::size_t head = 0; head < shape_.query_heads; ++head) {
      const std::span<const float> sums = mass.open(head);
      const auto lane = raw_lane_of(head / shape_.group());
      for (std::size_t token = 0; token < g.unit; ++token) {
        masses_[token] = unit_slots_[token] == nowhere ? 0.0F : sums[kvkeep::index(unit_slots_[token])];
      }
      index.represent(
          layer_, unit, head, masses_, [&](std::size_t token) { return unit_slots_[token] != nowhere; },
          [&](std::size_t token, std::span<float> row) { lane.copy_key(unit_slots_[token], row); }, row_);
    }
  }
}

template <class Turn>
void block_memory::look_up_mean(std::size_t begin, std::size_t end, std::size_t units, const resident_tokens& tokens,
                                position first_position, const Turn& turn) {
  std::fill(turned_.begin(), turned_.end(), 0.0F);
  for (std::size_t head = 0; head < shape_.query_heads; ++head) {
    const std::span<float> sum = turned_.subspan(head * shape_.head_dim, shape_.head_dim);
    for (std::size_t t = begin; t < end; ++t) {
      turn(t, head, row_);
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += row_[c];
    }
    for (float& x : sum) x /= static_cast<float>(end - begin);
  }
  ahead_count_ = 0;
  for (std::size_t c = 0; c < choosers_; ++c) {
    const auto best = index.look_up(layer_, c, turned_.data(), units, std::min(units, rules_.count + tiers_.read_ahead),
                                    [&](std::size_t u) { return live(u, tokens, first_position); });
    std::copy_n(best.begin(), rules_.count, choice_of(c).begin());
    for (const std::uint32_t unit : best.subspan(rules_.count)) ahead_[ahead_count_++] = unit;
  }
  chosen_count_[1 - now_][layer_] = static_cast<std::uint32_t>(rules_.count);
}

inline std::span<const key_span> block_memory::list(std::size_t chooser, std::size_t t, std::size_t end,
                                                    const resident_tokens& tokens, position first_position) {
  const unit_geometry& g = rules_.geometry;
  const std::span<std::uint32_t> units = sorted_.first(chosen_count_[1 - now_][layer_]);
  std::copy_n(choice_of(chooser).begin(), units.size(), units.begin());
  std::sort(units.begin(), units.end());
  std::size_t touched = 0;
  const auto add_resident = [&](position from, position to) {
    for (std::size_t i = tokens.find(from); i < tokens.slots.size() && tokens.position_of(i) < to; ++i) {
      const std::size_t s = kvkeep::index(tokens.slots[i]);
      if (rows_[s / block_tokens] == 0) touched_[touched++] = static_cast<std::uint32_t>(s / block_tokens);
      rows_[s / block_tokens] |= 1U << s % block_tokens;
    }
  };
  for (const std::uint32_t unit : units) {
    if (unit < filed_) continue;
    const auto begin = first_position + static_cast<position>(g.first_of(unit));
    add_resident(begin, begin + static_cast<position>(g.unit));
  }
  if (rules_.pending == pending_mask::authors) {
    // Those that this query has in its window, and the last query of its block has not.
    const auto query = first_position + static_cast<position>(first_ + t);
    const auto last = first_position + static_cast<position>(first_ + end - 1);
    const auto window = static_cast<position>(g.window);
    const auto unfiled_from = first_position + static_cast<position>(g.first_of(available_now(t)));
    const position sinks_end = first_position + static_cast<position>(g.sinks);
    add_resident(std::max(first_position, query - window + 1), std::min(sinks_end, last - window + 1));
    add_resident(std::max(unfiled_from, query - window + 1), last - window + 1);
  }
  std::sort(touched_.begin(), touched_.begin() + static_cast<std::ptrdiff_t>(touched));
  const std::span<key_span> all = spans_.subspan(spans_taken_, most_spans());
  std::size_t count = 0;
  for (std::size_t i = 0; i < touched; ++i) {
    all[count++] = {rules_.distance, touched_[i], rows_[touched_[i]], true};
    rows_[touched_[i]] = 0;
  }
  if (tiered()) {
    std::sort(units.begin(), units.end(), [&](std::uint32_t a, std::uint32_t b) { return place_of(a) < place_of(b); });
  }
  for (const std::uint32_t unit : units) {
    if (unit < filed_ && units_.live(unit)) units_.list(unit, place_of(unit), rules_.distance, all, count);
  }
  spans_taken_ += count;
  return all.first(count);
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
