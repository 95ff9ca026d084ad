// layer_attention: the attention of a cache: turns queries, shares the work out, merges its parts.
//
// A task is a kv head, or one part of its keys, for up to 64 rows (queries x heads of the group). What a task works in is a
// region; where all keys of a head are one task, a worker's region serves one task after another.
#ifndef KVKEEP_CACHE_LAYER_ATTENTION_HPP
#define KVKEEP_CACHE_LAYER_ATTENTION_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "kvkeep/attention/attend.hpp"
#include "kvkeep/attention/evidence.hpp"
#include "kvkeep/cache/attention_sizes.hpp"
#include "kvkeep/cache/more_reads.hpp"
#include "kvkeep/core/executor.hpp"
#include "kvkeep/core/tensor.hpp"
#include "kvkeep/position/rotator.hpp"
#include "kvkeep/storage/kv_store.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

template <codec KeyCodec, codec ValueCodec>
class layer_attention {
 public:
  using lane = lane_view<KeyCodec, ValueCodec>;

  explicit layer_attention(const attention_sizes& sizes) : sizes_(sizes) {}

  void lay_out(arena& memory) {
    const std::size_t dim = sizes_.shape.head_dim;
    const std::size_t group = sizes_.shape.group();
    const std::size_t queries = together();
    rotator_.lay_out(memory, sizes_.pairs, sizes_.pairs > 0 ? sizes_.max_step : 0, sizes_.near);
    slopes_ = memory.take<float>(sizes_.alibi ? sizes_.shape.query_heads : 0);
    shifts_ = memory.take<float>(sizes_.alibi ? regions() * group : 0);
    sink_logits_ = memory.take<float>(sizes_.sink_logits);
    turned_ = memory.take<float>(regions() * queries * group * dim);
    accumulated_ = memory.take<float>(regions() * queries * group * dim);
    states_ = memory.take<softmax_state>(regions() * queries * group);
    runs_ = memory.take<query_run>(regions() * queries);
    left_ = memory.take<std::span<const key_span>>(regions() * queries);
    spans_ = memory.take<key_span>(std::max(sizes_.most_spans, queries * (sizes_.blocks + 1)));
    views_ = memory.take<std::span<const key_span>>(queries);
    angles_ = memory.take<float>(sizes_.turns_keys ? sizes_.blocks * block_tokens * 2 * sizes_.pairs : 0);
    lanes_ = memory.take<lane>(sizes_.turns_keys ? sizes_.shape.kv_heads * sizes_.key_parts : 0);
    scratch_ = memory.take<attend_scratch>(sizes_.workers);
    memories_ = memory.take<angle_memory>(sizes_.workers);
    for (std::size_t w = 0; w < sizes_.workers; ++w) {
      attend_scratch scratch;
      angle_memory angles;
      scratch.lay_out<KeyCodec, ValueCodec>(memory, queries, group, dim, sizes_.turns_keys);
      angles.lay_out(memory, sizes_.pairs);
      if (memory.measuring()) continue;
      scratch_[w] = scratch;
      memories_[w] = angles;
      memories_[w].clear();
    }
  }

  /// Fills the tables; the arguments have been checked.
  void fill(const position_encoding& positions, const rope_frequencies& frequencies, float scale, float softcap,
            std::span<const float> sink_logits) {
    scale_ = scale;
    softcap_ = softcap;
    std::copy(sink_logits.begin(), sink_logits.end(), sink_logits_.begin());
    if (const rope* const r = std::get_if<rope>(&positions)) rotator_.fill(*r, frequencies, memories_[0]);
    if (const alibi* const a = std::get_if<alibi>(&positions)) {
      const std::vector<float> slopes = a->slopes.empty() ? alibi_slopes(sizes_.shape.query_heads) : a->slopes;
      std::copy(slopes.begin(), slopes.end(), slopes_.begin());
    }
    const std::size_t dim = sizes_.shape.head_dim;
    for (std::size_t i = 0; i < states_.size(); ++i) {
      states_[i] = softmax_state{.accumulated = accumulated_.subspan(i * dim, dim)};
    }
    std::fill(angles_.begin(), angles_.end(), 0.0F);
  }

  void begin_step(position first, std::size_t n) noexcept {
    first_position_ = first;
    if (sizes_.pairs > 0) rotator_.begin_step(first, n);
  }

  /// Queries that are attended together: about 64 rows share what is read. Where every key has a distance of its own to each
  /// query, they are attended one by one.
  [[nodiscard]] std::size_t together() const noexcept {
    constexpr std::size_t rows = 64;
    if (sizes_.alibi || sizes_.turns_keys) return 1;
    return std::min(sizes_.max_step, std::max<std::size_t>(rows / sizes_.shape.group(), 1));
  }
  /// States that are worked on at once.
  [[nodiscard]] std::size_t regions() const noexcept {
    return a_region_a_task() ? sizes_.shape.kv_heads * sizes_.key_parts : sizes_.workers;
  }

  /// The row as it is stored, in `room` [head_dim] if it changes: turned to its position, or raw with the attention factor on.
  [[nodiscard]] std::span<const float> stored_row(std::span<const float> row, position at, bool raw,
                                                  std::span<float> room) noexcept {
    if (sizes_.pairs == 0 || sizes_.applied) return row;
    if (raw) {
      rotator_.keep_raw(row, room.data());
    } else {
      rotator_.turn(at, row, room.data(), memories_[0]);
    }
    return room;
  }

  // What queries `first`, ... of the step read, one view after the other.

  void start_views(std::size_t first) noexcept {
    first_ = first;
    count_ = built_ = 0;
    spans_taken_ = 0;
  }
  /// Attends as many of those queries only, until attend_all().
  void attend_first(std::size_t count) noexcept { count_ = count; }
  void attend_all() noexcept { count_ = built_; }
  [[nodiscard]] bool wants_view() const noexcept { return count_ < views_.size(); }
  /// Whether there is room for a view of so many spans; there always is for the first.
  [[nodiscard]] bool has_room(std::size_t spans) const noexcept { return spans_taken_ + spans <= spans_.size(); }
  void add_view(const query_view& view) noexcept {
    const std::span<key_span> kept = spans_.subspan(spans_taken_, view.spans.size());
    std::copy(view.spans.begin(), view.spans.end(), kept.begin());
    views_[count_++] = kept;
    built_ = count_;
    spans_taken_ += view.spans.size();
    distance_ = view.distance;
    if (!sizes_.turns_keys) return;
    const std::size_t block_floats = block_tokens * 2 * sizes_.pairs;
    for (const key_span& s : view.spans) {
      rotator_.fill_block(view.distance.data() + std::size_t{s.block} * block_tokens, s.mask,
                          angles_.data() + s.block * block_floats, memories_[0]);
    }
  }
  /// The row turned to a position, [head_dim], as queries are.
  void turn_query(position at, std::span<const float> row, std::span<float> out) noexcept {
    if (sizes_.pairs == 0) {
      std::copy(row.begin(), row.end(), out.begin());
    } else {
      rotator_.turn(at, row, out.data(), memories_[0]);
    }
  }
  [[nodiscard]] std::size_t first() const noexcept { return first_; }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

  /// The attention of those queries in some kv heads, whose keys and values are lane_of(head, raw); raw: with the raw ones of
  /// keys that are stored in both forms.
  template <class LaneOf, class Evidence>
  void attend(std::span<const std::uint32_t> kv_heads, const LaneOf& lane_of, rows_view<const float> q,
              rows_view<float> out, const executor_ref& executor, Evidence& evidence, const more_reads& more = {}) {
    const std::size_t heads = kv_heads.size();
    const std::size_t parts = sizes_.key_parts;
    if (sizes_.turns_keys) {
      // Heads that one worker attends share the angles of a tile.
      const std::size_t bundles = std::min(heads, executor.workers());
      const auto work = [&](std::size_t task, std::size_t worker) {
        const std::size_t first = heads * (task / parts) / bundles;
        const std::size_t last = heads * (task / parts + 1) / bundles;
        attend_bundle(kv_heads.subspan(first, last - first), first, task % parts, worker, lane_of, q, evidence);
        for (std::size_t i = first; parts == 1 && i < last; ++i) finish(kv_heads[i], out, worker, evidence);
      };
      executor.run(bundles * parts, work);
    } else {
      const auto work = [&](std::size_t task, std::size_t worker) {
        const std::size_t head = kv_heads[task / parts];
        attend_part(head, task % parts, worker, lane_of, q, evidence, more);
        if (parts == 1) finish(head, out, worker, evidence);
      };
      executor.run(heads * parts, work);
    }
    if (parts == 1) return;
    const auto join = [&](std::size_t task, std::size_t worker) { finish(kv_heads[task], out, worker, evidence); };
    executor.run(heads, join);
  }

 private:
  [[nodiscard]] bool a_region_a_task() const noexcept { return sizes_.turns_keys || sizes_.key_parts > 1; }
  [[nodiscard]] std::size_t region_of(std::size_t head, std::size_t part, std::size_t worker) const noexcept {
    return a_region_a_task() ? head * sizes_.key_parts + part : worker;
  }
  /// The states of a region, [queries][group].
  [[nodiscard]] std::span<softmax_state> states_of(std::size_t region) const noexcept {
    const std::size_t group = sizes_.shape.group();
    return states_.subspan(region * together() * group, count_ * group);
  }
  [[nodiscard]] float* turned_of(std::size_t region) const noexcept {
    return turned_.data() + region * together() * sizes_.shape.group() * sizes_.shape.head_dim;
  }
  [[nodiscard]] score_options options_of(std::size_t head) const noexcept {
    const std::size_t group = sizes_.shape.group();
    return {softcap_,
            sizes_.alibi ? std::span<const float>(slopes_.subspan(head * group, group)) : std::span<const float>(),
            {}};
  }
  /// The spans that are one part of all.
  [[nodiscard]] std::span<const key_span> part_of(std::span<const key_span> all, std::size_t part) const noexcept {
    const std::size_t begin = all.size() * part / sizes_.key_parts;
    return all.subspan(begin, all.size() * (part + 1) / sizes_.key_parts - begin);
  }
  /// Empties the states of a region, but for the sink logit, which is in the first part.
  void start(std::size_t head, std::size_t part, std::span<softmax_state> states) const noexcept {
    const std::size_t group = sizes_.shape.group();
    for (std::size_t i = 0; i < states.size(); ++i) {
      states[i].clear();
      if (!sink_logits_.empty() && part == 0) {
        states[i].max = sink_logits_[head * group + i % group];
        states[i].sum = 1.0F;
      }
    }
  }

  /// The last of some spans that share an angle and a form; what is before them is left.
  [[nodiscard]] static std::span<const key_span> take_last(std::span<const key_span>& left) noexcept {
    const key_span& last = left.back();
    std::size_t begin = left.size() - 1;
    while (begin > 0 && left[begin - 1].angle == last.angle && left[begin - 1].raw == last.raw) --begin;
    const std::span<const key_span> taken = left.subspan(begin);
    left = left.first(begin);
    return taken;
  }
  /// The run over spans that share an angle of states.size() heads of query t, from the `first` of the kv head on; they are turned
  /// into `turned` [heads][head_dim].
  [[nodiscard]] query_run run_of(std::size_t head, std::size_t first, std::size_t t, std::span<const key_span> spans,
                                 rows_view<const float> q, std::size_t worker, std::span<softmax_state> states,
                                 float* turned) noexcept {
    const std::size_t dim = sizes_.shape.head_dim;
    const position angle = spans.empty() ? 0 : spans.back().angle;
    for (std::size_t g = 0; g < states.size(); ++g) {
      const std::span<const float> row(q.row(first_ + t, head * sizes_.shape.group() + first + g), dim);
      float* const to = turned + g * dim;
      if (sizes_.pairs == 0) {
        std::copy(row.begin(), row.end(), to);
      } else if (sizes_.turns_keys) {
        rotator_.keep_raw(row, to);
      } else {
        const position by = sizes_.applied ? angle - (first_position_ + static_cast<position>(first_ + t)) : angle;
        rotator_.turn(by, row, to, memories_[worker]);
      }
      for (std::size_t c = 0; c < dim; ++c) to[c] *= scale_;
    }
    return {spans, turned, states, distance_, t};
  }

  /// One part of the keys of a kv head.
  template <class LaneOf, class Evidence>
  void attend_part(std::size_t head, std::size_t part, std::size_t worker, const LaneOf& lane_of,
                   rows_view<const float> q, const Evidence& evidence, const more_reads& more) noexcept {
    const std::size_t group = sizes_.shape.group();
    const std::size_t region = region_of(head, part, worker);
    const std::span<softmax_state> states = states_of(region);
    start(head, part, states);
    const auto observer = evidence.record(region);
    observer.clear(states.size());
    const std::span<query_run> runs = runs_.subspan(region * together(), together());
    const std::span<std::span<const key_span>> left = left_.subspan(region * together(), together());
    if (more.spans != nullptr) attend_more(head, part, worker, lane_of(head, true), q, more, observer);
    for (std::size_t t = 0; t < count_; ++t) left[t] = part_of(views_[t], part);

    // Where keys have two forms, first the raw ones, which all have one angle. Then one pass for the largest angle of every
    // query, where almost all keys are; then the next angles of those that have more.
    const auto reads_raw = [&](const key_span& s) { return sizes_.both && s.raw; };
    bool raw = sizes_.both;
    for (;;) {
      std::size_t count = 0;
      for (std::size_t t = 0; t < count_; ++t) {
        if (left[t].empty() || reads_raw(left[t].back()) != raw) continue;
        runs[count] = run_of(head, 0, t, take_last(left[t]), q, worker, states.subspan(t * group, group),
                             turned_of(region) + count * group * sizes_.shape.head_dim);
        ++count;
      }
      if (count > 0) {
        observe(raw, observer, [&](const auto& told) {
          kvkeep::attend(lane_of(head, raw), std::span<const query_run>(runs.first(count)), options_of(head),
                         scratch_[worker], told);
        });
      } else if (raw) {
        raw = false;
      } else {
        return;
      }
    }
  }

  /// f(observer), or what an observer tells of raw keys by itself.
  template <class Observer, class F>
  static void observe(bool raw, const Observer& observer, const F& f) {
    if constexpr (requires { observer.of_raw(); }) {
      if (raw) return f(observer.of_raw());
    }
    f(observer);
  }
  /// One part of what the queries of a kv head read besides their views.
  template <class Observer>
  void attend_more(std::size_t head, std::size_t part, std::size_t worker, const lane& keys, rows_view<const float> q,
                   const more_reads& more, const Observer& observer) noexcept {
    const std::size_t group = sizes_.shape.group();
    const std::size_t dim = sizes_.shape.head_dim;
    const std::size_t region = region_of(head, part, worker);
    const std::span<query_run> runs = runs_.subspan(region * together(), together());
    const std::span<std::span<const key_span>> left = left_.subspan(region * together(), together());
    score_options options = options_of(head);
    options.slopes = {};
    const bool each = more.choosers > sizes_.shape.kv_heads;  // every query head reads its own
    const std::size_t rows = each ? 1 : group;
    for (std::size_t g = 0; g < group; g += rows) {
      const std::size_t chooser = more.choosers == 1 ? 0 : each ? head * group + g : head;
      for (std::size_t t = 0; t < count_; ++t) left[t] = part_of(more.spans[t * more.choosers + chooser], part);
      for (;;) {
        std::size_t count = 0;
        for (std::size_t t = 0; t < count_; ++t) {
          if (left[t].empty()) continue;
          runs[count] = run_of(head, g, t, take_last(left[t]), q, worker,
                               states_of(region).subspan(t * group + g, rows), turned_of(region) + count * rows * dim);
          ++count;
        }
        if (count == 0) break;
        const std::span<const query_run> all = runs.first(count);
        if (sizes_.alibi) {  // queries come one by one
          const std::span<float> shifts = shifts_.subspan(region * group, rows);
          const auto distance = static_cast<float>(all[0].spans[0].angle);
          for (std::size_t i = 0; i < rows; ++i) shifts[i] = slopes_[head * group + g + i] * distance;
          options.shifts = shifts;
        }
        if constexpr (requires { observer.wants_more(); }) {
          if (observer.wants_more()) {
            kvkeep::attend(keys, all, options, scratch_[worker], observer.of_more(g));
            continue;
          }
        }
        kvkeep::attend(keys, all, options, scratch_[worker]);
      }
    }
  }

  /// One part of the keys of some kv heads, from the `first` on of all that are attended, whose keys are turned as they are
  /// read.
  template <class LaneOf, class Evidence>
  void attend_bundle(std::span<const std::uint32_t> heads, std::size_t first, std::size_t part, std::size_t worker,
                     const LaneOf& lane_of, rows_view<const float> q, const Evidence& evidence) noexcept {
    const std::size_t parts = sizes_.key_parts;
    const std::size_t place = part * sizes_.shape.kv_heads + first;  // of the bundle's runs and lanes
    for (std::size_t i = 0; i < heads.size(); ++i) {
      const std::size_t head = heads[i];
      const std::size_t region = region_of(head, part, worker);
      start(head, part, states_of(region));
      evidence.record(region).clear(states_of(region).size());
      lanes_[place + i] = lane_of(head, false);
      runs_[place + i] = run_of(head, 0, 0, part_of(views_[0], part), q, worker, states_of(region), turned_of(region));
    }
    attend_turned(std::span<const lane>(lanes_.subspan(place, heads.size())),
                  std::span<const query_run>(runs_.subspan(place, heads.size())), rotator_.turning(angles_.data()),
                  options_of(heads.front()), scratch_[worker],
                  [&](std::size_t i) { return evidence.record(heads[i] * parts + part); });
  }

  /// Merges the parts of a kv head in order, and writes what they give.
  template <class Evidence>
  void finish(std::size_t head, rows_view<float> out, std::size_t worker, Evidence& evidence) noexcept {
    const std::size_t group = sizes_.shape.group();
    const std::size_t region = region_of(head, 0, worker);
    const std::span<softmax_state> states = states_of(region);
    for (std::size_t part = 1; part < sizes_.key_parts; ++part) {
      const std::span<const softmax_state> more = states_of(region + part);
      for (std::size_t i = 0; i < states.size(); ++i) merge(states[i], more[i]);
    }
    for (std::size_t i = 0; i < states.size(); ++i) {
      states[i].finish({out.row(first_ + i / group, head * group + i % group), sizes_.shape.head_dim});
    }
    for (std::size_t part = 0; part < sizes_.key_parts; ++part) {
      evidence.take(evidence.record(region + part), head, first_, states);
    }
    evidence.take_states(head, first_, states);
  }

  attention_sizes sizes_;
  float scale_ = 1.0F;
  float softcap_ = 0.0F;
  position first_position_ = 0;  // of the step
  std::size_t first_ = 0;        // query whose view is views_[0]
  std::size_t built_ = 0;        // views
  std::size_t count_ = 0;        // of them, those that are attended
  std::size_t spans_taken_ = 0;

  rotator rotator_;
  std::span<float> slopes_;                     // [query_heads], ALiBi
  std::span<float> shifts_;                     // [regions][group], ALiBi at a distance of more_reads
  std::span<float> sink_logits_;                // [query_heads] or empty
  std::span<key_span> spans_;                   // of all views
  std::span<std::span<const key_span>> views_;  // [queries]: what each reads
  std::span<const position> distance_;          // by slot; of the only view, where keys or scores need it
  std::span<float> angles_;                     // [blocks][pairs][2][16]; of the only view, where keys are turned
  std::span<float> turned_;                     // [regions][queries][group][head_dim]
  std::span<float> accumulated_;                // [regions][queries][group][head_dim]
  std::span<softmax_state> states_;             // [regions][queries][group]
  std::span<query_run> runs_;                   // [regions][queries]
  std::span<std::span<const key_span>> left_;   // [regions][queries]: not yet attended
  std::span<lane> lanes_;                       // [parts][kv_heads], where keys are turned
  std::span<attend_scratch> scratch_;           // [workers]
  std::span<angle_memory> memories_;            // [workers]
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
