// memory_attention_impl: a layer's attention where queries read memory units, and how tokens are filed. Included by
// cache_core.hpp.
#ifndef KVKEEP_CACHE_MEMORY_ATTENTION_IMPL_HPP
#define KVKEEP_CACHE_MEMORY_ATTENTION_IMPL_HPP

#include "kvkeep/cache/cache_core.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// What the caller wants to know of attention, and beside it the sums of the window, which raw keys have no part in, and those
/// of units.
template <class Wanted, class Except>
struct evidence_and_mass {
  Wanted& wanted;
  block_memory& memory;
  Except except;  // except(query, f): f(slot) for the slots that do not count for a query

  using wanted_record = decltype(std::declval<const Wanted&>().record(std::size_t{0}));
  struct record_type {
    wanted_record of_wanted;
    window_mass::record_type of_window;
    unit_mass::record_type of_units;

    [[nodiscard]] const wanted_record& of_raw() const noexcept { return of_wanted; }
    void clear(std::size_t rows) const noexcept {
      of_wanted.clear(rows);
      of_window.clear(rows);
      if (wants_more()) of_units.clear(rows);
    }
    /// Whether what is read besides the views is to be told of, and the observer of a query head of the group, or of all.
    [[nodiscard]] bool wants_more() const noexcept { return !of_units.weights.empty(); }
    [[nodiscard]] unit_mass::record_type of_more(std::size_t head) const noexcept {
      unit_mass::record_type out = of_units;
      out.first_head = head;
      return out;
    }
    void scores(std::size_t query, std::size_t head, std::span<const std::uint32_t> blocks, const std::uint16_t* masks,
                const float* made) const noexcept {
      of_window.scores(query, head, blocks, masks, made);
    }
    void operator()(std::size_t query, std::size_t head, std::span<const std::uint32_t> blocks,
                    const std::uint16_t* masks, const float* made, float reference) const noexcept {
      of_wanted(query, head, blocks, masks, made, reference);
      of_window(query, head, blocks, masks, made, reference);
    }
  };
  [[nodiscard]] record_type record(std::size_t region) const noexcept {
    return {wanted.record(region), memory.mass.record(region), memory.attended.record(region)};
  }
  void take(const record_type& record, std::size_t kv_head, std::size_t first,
            std::span<const softmax_state> states) noexcept {
    wanted.take(record.of_wanted, kv_head, first, states);
    memory.mass.take(record.of_window, kv_head, states, [&](std::size_t q, const auto& f) { except(first + q, f); });
    if (record.wants_more()) memory.take_attended(record.of_units, kv_head, states);
  }
  void take_states(std::size_t kv_head, std::size_t first, std::span<const softmax_state> states) noexcept {
    wanted.take_states(kv_head, first, states);
  }
};

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::check_memory(std::size_t n) const {
  const std::size_t most = memory.max_tokens();
  const std::size_t so_far = number_of(plan.next_position());
  const std::size_t room = most - std::min(most, so_far);
  if (n <= room) return {};
  return error{
      errc::capacity, "n",
      fmt::format("kvkeep: n = {}; allowed: 0 .. {}: {} of max_tokens = {} tokens have come", n, room, so_far, most)};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::check_shortened(std::size_t n, bool shortens) const {
  if (!shortens || n <= 1) return {};
  if (memory.rules().execution > 0) {
    return make_error(
        errc::unsupported, "may_shorten",
        "may_shorten: queries of an execution block look up together, so that a step cannot be shortened");
  }
  if (n <= max_shortened_) return {};
  return bad_argument("n", n, fmt::format("1 .. cache_options::max_shortened = {} with may_shorten", max_shortened_));
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::keep_queries(std::size_t layer, rows_view<const float> q) noexcept {
  const std::size_t row = shape.query_heads * shape.head_dim;
  const std::span<float> kept = queries_of(layer);
  for (std::size_t t = 0; t < q.tokens() && kept.size() >= row; ++t) {
    std::copy_n(q.row(t, 0), row, kept.begin() + static_cast<std::ptrdiff_t>(t * row));
  }
}

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::shorten(std::size_t count, const commit_evidence& evidence) {
  const std::size_t n = plan.step_tokens();
  if (count == 0 || count > n || (count == n && !half_shortened_)) return {};
  if (!shortens_) {
    return make_error(
        errc::unsupported, "commit",
        fmt::format("commit({}) of a step of {} tokens: attention decides what this policy does, so begin(n, "
                    "may_shorten) must say that the step may be shortened",
                    count, n));
  }
  if (auto ok = plan.check_commit(count, evidence); !ok) return ok;
  // What the tokens that are left did to the memory is found by attending them once more.
  no_evidence_wanted nothing_wanted;
  built_unit_ = nothing;
  half_shortened_ = true;
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    if (auto ok = attend_with_memory(layer, {queries_of(layer).data(), count, shape.query_heads, shape.head_dim},
                                     {kept_outputs_.data(), count, shape.query_heads, shape.head_dim}, executor_ref{},
                                     nothing_wanted);
        !ok) {
      return ok;
    }
  }
  half_shortened_ = false;
  return {};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
template <class Evidence>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::attend_with_memory(std::size_t layer, rows_view<const float> q,
                                                                          rows_view<float> out,
                                                                          const executor_ref& executor,
                                                                          Evidence& evidence) {
  const auto lane = [&](std::size_t head, bool raw) {
    return raw ? store.raw_view(lane_of(layer, head)) : store.view(lane_of(layer, head));
  };
  const resident_tokens tokens{plan.step_slots(), plan.positions()};
  const position begin_of_stream = plan.first_position();
  const auto turn = [&](std::size_t t, std::size_t head, std::span<float> row) {
    attention_.turn_query(memory.distance(), {q.row(t, head), shape.head_dim}, row);
  };
  const std::size_t n = q.tokens();
  memory.begin_layer(layer, number_of(plan.next_position()), n);
  const auto raw_lane = [&](std::size_t head) { return store.raw_view(lane_of(layer, head)); };
  const auto attend_all = [&](auto& told) -> result<void> {
    for (std::size_t begin = 0; begin < n;) {
      const std::size_t end = memory.segment_end(begin, n);
      for (std::size_t t = begin; t < end; t += attention_.count()) {
        build_views(0, 0, t, end);
        more_reads more;
        if (memory.retrieves_in(layer)) {
          const auto chosen = memory.choose(t, attention_.count(), begin, end, tokens, begin_of_stream, turn, raw_lane);
          if (!chosen) return chosen.error();
          attention_.attend_first(*chosen);
          more = {memory.reads().data(), memory.choosers()};
        }
        attention_.attend(heads_, lane, q, out, executor, told, more);
        if constexpr (has_tiers) {
          if (memory.retrieves_in(layer)) memory.settle_attended();
        }
      }
      if constexpr (memory_type::decided_by_attention) {
        if (memory.retrieves_in(layer)) memory.represent(begin, end, tokens, begin_of_stream, raw_lane);
      }
      begin = end;
    }
    return {};
  };
  if constexpr (memory_type::decided_by_attention) {
    if (memory.retrieves_in(layer)) {
      const auto except = [&](std::size_t query, const auto& f) {
        // A query's score for itself is no evidence; where nothing is turned, keys behind the window were observed as well.
        if (memory.rules().by == representative_score::dot_product) f(plan.new_slots(0)[query]);
        if (both_forms()) return;
        const position window_begin = plan.next_position() + static_cast<position>(query + 1) -
                                      static_cast<position>(memory.rules().geometry.window);
        for (std::size_t i = 0; i < tokens.slots.size() && tokens.position_of(i) < window_begin; ++i)
          f(tokens.slots[i]);
      };
      evidence_and_mass<Evidence, decltype(except)> all{evidence, memory, except};
      return attend_all(all);
    }
  }
  return attend_all(evidence);
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::file(std::size_t n) {
  memory.commit(number_of(plan.next_position()));
  const filed_blocks lanes = filed();
  for (const token_drop& drop : plan.last().dropped) {
    if constexpr (has_tiers) {
      memory.file(number_of(drop.at), drop.where, [&](slot from, std::size_t unit, std::size_t token) {
        for (std::size_t lane = lanes.first_lane; lane < lanes.last_lane; ++lane) {
          if (!memory.tiered()) {
            store.file(lane, from, memory.filed_slot(unit, token));
            continue;
          }
          const std::size_t place = lane - lanes.first_lane;
          store.to_record(lane, from, memory.tiers.staged(unit, place / shape.kv_heads),
                          memory.rules().record_row(place % shape.kv_heads, token), memory.where().cold, key_row_);
        }
      });
    } else {
      memory.file(number_of(drop.at), drop.where, [&](slot from, slot to) {
        for (std::size_t lane = lanes.first_lane; lane < lanes.last_lane; ++lane) store.file(lane, from, to);
      });
      if constexpr (indexed) {
        memory.index(number_of(drop.at), [&](std::size_t place, slot at) {
          store.raw_view(lanes.first_lane + place).copy_key(at, key_row_);
          return std::span<const float>(key_row_);
        });
      }
    }
  }
  memory.set_filed_after(number_of(plan.next_position()) - n, n);
}

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::open_tiers() {
  if (!memory.tiered()) return {};
  const auto fill = [](void* self, std::size_t layer, std::size_t frame, std::span<const std::byte> record,
                       std::span<float> room) noexcept {
    cache_core& core = *static_cast<cache_core*>(self);
    const block_memory& units = core.memory;
    for (std::size_t head = 0; head < core.shape.kv_heads; ++head) {
      core.store.from_record(core.lane_of(units.layers().first + layer, head), units.filed_slot(frame, 0), record,
                             units.rules().record_row(head, 0), units.rules().geometry.unit, units.where().cold, room);
    }
  };
  return memory.tiers.open(memory.where(), {this, fill});
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::forget_dropped() noexcept {
  for (const token_drop& drop : plan.last().dropped) memory.drop(drop.where);
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
