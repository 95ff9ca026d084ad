// memory_attention_impl: a layer's attention where queries read memory units, and how tokens are filed. Included by
// cache_core.hpp.
#ifndef KVKEEP_CACHE_MEMORY_ATTENTION_IMPL_HPP
#define KVKEEP_CACHE_MEMORY_ATTENTION_IMPL_HPP

#include "kvkeep/cache/cache_core.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// What the caller wants to know of attention, and beside it the sums of the window, which raw keys have no part in.
template <class Wanted, class Own>
struct evidence_and_mass {
  Wanted& wanted;
  window_mass& mass;
  Own own;  // own(query, kv_head): the slot of a query's own key

  using wanted_record = decltype(std::declval<const Wanted&>().record(std::size_t{0}));
  struct record_type {
    wanted_record of_wanted;
    window_mass::record_type of_window;

    [[nodiscard]] const wanted_record& of_raw() const noexcept { return of_wanted; }
    void clear(std::size_t rows) const noexcept {
      of_wanted.clear(rows);
      of_window.clear(rows);
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
    return {wanted.record(region), mass.record(region)};
  }
  void take(const record_type& record, std::size_t kv_head, std::size_t first,
            std::span<const softmax_state> states) noexcept {
    wanted.take(record.of_wanted, kv_head, first, states);
    mass.take(record.of_window, kv_head, states, [&](std::size_t q) { return own(first + q, kv_head); });
  }
  void take_states(std::size_t kv_head, std::size_t first, std::span<const softmax_state> states) noexcept {
    wanted.take_states(kv_head, first, states);
  }
};

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::check_memory(std::size_t n) const {
  const std::size_t most = memory.rules().max_tokens;
  const std::size_t so_far = number_of(plan.next_position());
  const std::size_t room = most - std::min(most, so_far);
  if (n <= room) return {};
  return error{
      errc::capacity, "n",
      fmt::format("kvkeep: n = {}; allowed: 0 .. {}: {} of max_tokens = {} tokens have come", n, room, so_far, most)};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
template <class Evidence>
void cache_core<Policy, KeyCodec, ValueCodec>::attend_with_memory(std::size_t layer, rows_view<const float> q,
                                                                  rows_view<float> out, const executor_ref& executor,
                                                                  Evidence& evidence) {
  const auto lane = [&](std::size_t head, bool raw) {
    return raw ? store.raw_view(lane_of(layer, head)) : store.view(lane_of(layer, head));
  };
  const auto own = [&](std::size_t query, std::size_t) { return plan.new_slots(0)[query]; };
  evidence_and_mass<Evidence, decltype(own)> all{evidence, memory.mass, own};
  const resident_tokens tokens{plan.step_slots(), plan.positions()};
  const position begin_of_stream = plan.first_position();
  const auto turn = [&](std::size_t t, std::size_t head, std::span<float> row) {
    attention_.turn_query(memory.rules().distance, {q.row(t, head), shape.head_dim}, row);
  };
  const std::size_t n = plan.step_tokens();
  memory.begin_layer(layer, number_of(plan.next_position()));
  for (std::size_t begin = 0; begin < n;) {
    const std::size_t end = memory.segment_end(begin, n);
    for (std::size_t t = begin; t < end; t += attention_.count()) {
      build_views(0, t, end);
      memory.choose(t, attention_.count(), begin, end, tokens, begin_of_stream, turn);
      attention_.attend(0, shape.kv_heads, lane, q, out, executor, all,
                        {memory.reads().data(), memory.choosers(), memory.rules().distance});
    }
    memory.represent(begin, end, tokens, begin_of_stream,
                     [&](std::size_t head) { return store.raw_view(lane_of(layer, head)); });
    begin = end;
  }
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::file(std::size_t n) {
  memory.commit(number_of(plan.next_position()));
  for (const token_drop& drop : plan.last().dropped) {
    memory.file(number_of(drop.at), drop.where, [&](slot from, slot to) {
      for (std::size_t lane = 0; lane < lanes_; ++lane) store.file(lane, from, to);
    });
  }
  memory.set_filed_after(number_of(plan.next_position()) - n, n);
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::forget_dropped() noexcept {
  for (const token_drop& drop : plan.last().dropped) memory.mass.drop(drop.where);
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
