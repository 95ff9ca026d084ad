// block_memory: the memory units of a cache: which there are, who represents them, which a query reads.
//
// A unit is complete when its tokens have left the window; then it is represented, and can be looked up. Its rows stay in the
// slots of the cache until the step in which that happens is committed; then they are filed: copied to blocks of its own, or to a
// file from which they are read to such blocks.
#ifndef KVKEEP_MEMORY_BLOCK_MEMORY_HPP
#define KVKEEP_MEMORY_BLOCK_MEMORY_HPP

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/memory/filed_units.hpp"
#include "kvkeep/memory/resident_tokens.hpp"
#include "kvkeep/memory/tiered_units.hpp"
#include "kvkeep/memory/unit_index.hpp"
#include "kvkeep/memory/unit_mass.hpp"
#include "kvkeep/memory/unit_rules.hpp"
#include "kvkeep/memory/window_mass.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Bytes of a unit in one layer.
struct unit_bytes {
  std::size_t frame = 0;   // where the cache computes with them
  std::size_t record = 0;  // in a file
};

/// The memory of retrieve_blocks.
class block_memory {
 public:
  static constexpr bool decided_by_attention = true;

  template <class Rules>
  block_memory(const Rules& rules, const model_shape& shape, const unit_tiers& where, const unit_bytes& bytes)
      : rules_(unit_rules_of(rules)), shape_(shape), bytes_(bytes), tiers_(where) {
    choosers_ = rules_.choosers(shape);
    std::size_t frames = rules_.units();
    const std::size_t each = bytes.frame * rules_.layers.before(shape.layers);
    if (tiered() && each > 0) frames = std::min(frames, where.hot_bytes / each);
    units_ = filed_units(rules_.units(), rules_.geometry.unit, frames, tiered());
  }
  /// An error where the frames cannot hold what one query reads.
  template <class Rules>
  [[nodiscard]] static result<void> check(const Rules& rules, const model_shape& shape, const unit_tiers& where,
                                          const unit_bytes& bytes) {
    const unit_memory_rules mine = unit_rules_of(rules);
    const std::size_t layers = mine.layers.before(shape.layers);
    const std::size_t frames = std::min(mine.units(), mine.count * mine.choosers(shape));
    if (where.hot_bytes == 0) return {};
    if (mine.units() == 0) {
      return bad_argument("tiers.hot_bytes", where.hot_bytes,
                          fmt::format("0 where max_tokens = {} fill no unit", mine.max_tokens));
    }
    const std::size_t least = frames * bytes.frame * layers;
    if (where.hot_bytes < least) {
      return bad_argument("tiers.hot_bytes", where.hot_bytes,
                          fmt::format("0, or >= {}: what a query reads of units, in {} layers", least, layers));
    }
    if (where.read_ahead > 0 && std::min(mine.units(), where.hot_bytes / (bytes.frame * layers)) <= frames) {
      return bad_argument(
          "tiers.read_ahead", where.read_ahead,
          fmt::format("0 where there is room for what a query reads only: {} of {} units", frames, mine.units()));
    }
    return {};
  }

  /// evidence: as the cache's; blocks: of the cache's own slots.
  void lay_out(arena& memory, const evidence_shape& evidence) {
    evidence_ = evidence;
    blocks_ = evidence.slots / block_tokens;
    const std::size_t units = rules_.units();
    const std::size_t layers = rules_.layers.before(shape_.layers);
    mass.lay_out(memory, evidence, layers, rules_.by);
    index.lay_out(memory, shape_, layers, units, rules_.representatives, choosers_, rules_.candidates);
    units_.lay_out(memory, blocks_);
    for (std::span<std::uint32_t>& c : chosen_) c = memory.take<std::uint32_t>(layers * choosers_ * rules_.count);
    for (std::span<std::uint32_t>& c : chosen_count_) c = memory.take<std::uint32_t>(layers);
    turned_ = memory.take<float>(shape_.query_heads * shape_.head_dim);
    sorted_ = memory.take<std::uint32_t>(rules_.count);
    rows_ = memory.take<std::uint32_t>(blocks_);
    touched_ = memory.take<std::uint32_t>(blocks_);
    spans_ = memory.take<key_span>(evidence.together * choosers_ * most_spans());
    reads_ = memory.take<std::span<const key_span>>(evidence.together * choosers_);
    masses_ = memory.take<float>(rules_.geometry.unit);
    unit_slots_ = memory.take<slot>(rules_.geometry.unit);
    row_ = memory.take<float>(shape_.head_dim);
    all_chosen_ = memory.take<std::uint32_t>(tiered() ? choosers_ * rules_.count : 0);
    ahead_ = memory.take<std::uint32_t>(choosers_ * tiers_.read_ahead);
    if (!tiered()) return;
    attended.lay_out(memory, evidence, (blocks_ + filed_blocks()) * block_tokens, scored() ? units_.frames() : 0);
    tiers.lay_out(memory,
                  {.layers = layers,
                   .units = units,
                   .record = bytes_.record,
                   .frames = units_.frames(),
                   .step = (evidence.tokens + std::min(rules_.execution, evidence.tokens)) / rules_.geometry.unit + 1,
                   .head_dim = shape_.head_dim},
                  tiers_);
  }
  void reset() noexcept {
    complete_ = filed_ = 0;
    mass.reset();
    for (const std::span<std::uint32_t> c : chosen_count_) std::fill(c.begin(), c.end(), 0U);
    std::fill(rows_.begin(), rows_.end(), 0U);
    units_.reset();
  }

  [[nodiscard]] const unit_memory_rules& rules() const noexcept { return rules_; }
  [[nodiscard]] std::size_t max_tokens() const noexcept { return rules_.max_tokens; }
  /// How far away everything seems that is retrieved.
  [[nodiscard]] position distance() const noexcept { return rules_.distance; }
  /// Blocks of 16 tokens for what is filed.
  [[nodiscard]] std::size_t filed_blocks() const noexcept { return units_.blocks(); }
  /// Whether not all units are in RAM.
  [[nodiscard]] bool tiered() const noexcept { return tiers_.hot_bytes != 0; }
  [[nodiscard]] const unit_tiers& where() const noexcept { return tiers_; }
  /// Whether attention decides what stays in RAM.
  [[nodiscard]] bool scored() const noexcept { return tiered() && std::holds_alternative<hot::decayed>(tiers_.keeps); }
  [[nodiscard]] std::size_t choosers() const noexcept { return choosers_; }
  [[nodiscard]] const layer_range& layers() const noexcept { return rules_.layers; }
  [[nodiscard]] bool retrieves_in(std::size_t layer) const noexcept { return rules_.layers.has(layer); }
  /// Units that are complete after the last commit.
  [[nodiscard]] std::size_t complete() const noexcept { return complete_; }
  /// Units whose rows have blocks of their own.
  [[nodiscard]] std::size_t filed() const noexcept { return filed_; }
  /// What the newest query looked up, best first.
  [[nodiscard]] std::span<const std::uint32_t> chosen(std::size_t layer, std::size_t chooser) const noexcept {
    if (!retrieves_in(layer)) return {};
    layer = rules_.layers.before(layer);
    return chosen_[now_].subspan((layer * choosers_ + chooser) * rules_.count, chosen_count_[now_][layer]);
  }
  /// Units that are in RAM, where not all are.
  [[nodiscard]] std::vector<std::uint32_t> hot_in(std::size_t layer) const {
    std::vector<std::uint32_t> out;
    if (!tiered() || !retrieves_in(layer)) return out;
    for (const hot_frame& f : tiers.hot.of(rules_.layers.before(layer))) {
      if (f.unit != hot_units::nowhere) out.push_back(f.unit);
    }
    return out;
  }
  /// See unit_index and window_mass.
  [[nodiscard]] std::span<const std::uint32_t> offsets(std::size_t layer, std::size_t unit,
                                                       std::size_t query_head) const noexcept {
    return index.offsets(rules_.layers.before(layer), unit, query_head);
  }
  [[nodiscard]] std::span<const float> vector(std::size_t layer, std::size_t unit,
                                              std::size_t query_head) const noexcept {
    return index.vector(rules_.layers.before(layer), unit, query_head);
  }
  [[nodiscard]] float window_sum(std::size_t layer, std::size_t query_head, slot s) const noexcept {
    return mass.committed(rules_.layers.before(layer), query_head, s);
  }
  /// The slot of a token of a frame: behind those of the cache. Without tiers unit u has frame u.
  [[nodiscard]] slot filed_slot(std::size_t frame, std::size_t token) const noexcept {
    return units_.slot_of(frame, token);
  }

  // A layer of a step whose first token has stream number `first`.

  void begin_layer(std::size_t layer, std::size_t first, std::size_t) noexcept {
    first_ = first;
    if (!retrieves_in(layer)) return;
    layer = rules_.layers.before(layer);
    layer_ = layer;
    mass.begin_layer(layer);
    const std::size_t length = choosers_ * rules_.count;
    std::copy_n(chosen_[now_].begin() + static_cast<std::ptrdiff_t>(layer * length), length,
                chosen_[1 - now_].begin() + static_cast<std::ptrdiff_t>(layer * length));
    chosen_count_[1 - now_][layer] = chosen_count_[now_][layer];
  }
  /// Where the queries end, of those from t on, that look among the same units; at most n.
  [[nodiscard]] std::size_t segment_end(std::size_t t, std::size_t n) const noexcept {
    if (rules_.execution > 0) return std::min(n, (t / rules_.execution + 1) * rules_.execution);
    const std::size_t tokens = first_ + t;
    const unit_geometry& g = rules_.geometry;
    const std::size_t next = g.sinks + g.window + (g.complete(tokens) + 1) * g.unit;  // tokens that complete one more
    return std::min(n, t + (next - tokens));
  }
  /// Units that query t looks among.
  [[nodiscard]] std::size_t available(std::size_t t) const noexcept {
    if (rules_.execution > 0) t = t / (rules_.execution * rules_.frozen) * (rules_.execution * rules_.frozen);
    return rules_.geometry.complete(first_ + t);
  }

  /// Chooses for the queries first, ... first + count - 1, all of one segment, and lists what they read; begins: the segment
  /// begins with them. turn(t, head, row) turns a query to the distance of what is retrieved; `end`: where the segment ends.
  /// Returns for how many of them it did: as many as there are frames for, at least one. Errors: units that cannot be read.
  template <class Turn, class LaneOf>
  [[nodiscard]] result<std::size_t> choose(std::size_t first, std::size_t count, std::size_t begin, std::size_t end,
                                           const resident_tokens& tokens, position first_position, const Turn& turn,
                                           const LaneOf& raw_lane_of);
  /// What they read of units, [queries][choosers].
  [[nodiscard]] std::span<const std::span<const key_span>> reads() const noexcept { return reads_; }

  /// Takes what the regions of a batch recorded of a kv head, see unit_mass.
  void take_attended(const unit_mass::record_type& record, std::size_t kv_head,
                     std::span<const softmax_state> states) noexcept;
  /// The batch was attended.
  void settle_attended() noexcept {
    if (!scored()) return;
    for (std::uint32_t f = 0; f < units_.frames(); ++f) {
      if (tiers.hot.in_batch(tiers.hot.of(layer_)[f])) tiers.hot.attended(layer_, f, attended.sum(f));
    }
  }

  /// Represents the units that the queries from .. to - 1 of the step completed; raw_lane_of(kv_head) reads raw keys.
  template <class LaneOf>
  void represent(std::size_t from, std::size_t to, const resident_tokens& tokens, position first_position,
                 const LaneOf& raw_lane_of);

  // What is committed; `tokens` of the stream there are then.

  void commit(std::size_t tokens) noexcept {
    complete_ = rules_.geometry.complete(tokens);
    mass.commit();
    now_ = 1 - now_;
  }
  /// Files a token that leaves the cache's slots: copy(from, unit, token) copies its rows, to filed_slot or to a record. Tokens
  /// come in the order of the stream.
  template <class Copy>
  void file(std::size_t number, slot from, const Copy& copy) {
    const std::size_t place = number - rules_.geometry.sinks;
    const std::size_t unit = place / rules_.geometry.unit;
    const std::size_t token = place % rules_.geometry.unit;
    copy(from, unit, token);
    units_.add(unit, token);
    mass.drop(from);
  }
  /// All is filed that the last decision of a step of n tokens, the first with this stream number, found complete.
  void set_filed_after(std::size_t first, std::size_t n) {
    filed_ = filed_after(first, n);
    if (tiered()) tiers.file();
  }
  /// Makes room for what such a step files. Errors: what was filed before cannot be written.
  [[nodiscard]] result<void> make_room(std::size_t first, std::size_t n) {
    return tiered() ? tiers.make_room(filed_after(first, n) - filed_) : result<void>{};
  }
  /// Forgets the filed tokens with stream numbers first <= number < last.
  void erase(std::size_t first, std::size_t last) noexcept {
    const unit_geometry& g = rules_.geometry;
    const std::size_t end = std::min(last, g.first_of(filed_));
    for (std::size_t number = std::max(first, g.sinks); number < end; ++number) {
      units_.erase((number - g.sinks) / g.unit, (number - g.sinks) % g.unit);
    }
  }

  void drop(slot s) noexcept { mass.drop(s); }
  void move(slot from, slot to) noexcept { mass.move(from, to); }

  window_mass mass{};
  unit_index index{};
  tiered_units tiers{};
  unit_mass attended{};

 private:
  /// Whether query t of the step looks up alone: at multiples of `every` in the stream's positions.
  [[nodiscard]] bool is_due(position first_position, std::size_t t) const noexcept {
    return (first_position + static_cast<position>(first_ + t)) % static_cast<position>(rules_.every) == 0;
  }
  static constexpr slot nowhere = static_cast<slot>(~std::uint32_t{0});

  /// Units that are filed when a step of n tokens, the first with this stream number, was committed.
  [[nodiscard]] std::size_t filed_after(std::size_t first, std::size_t n) const noexcept {
    const std::size_t last = rules_.execution > 0 ? (n - 1) / rules_.execution * rules_.execution : n - 1;
    return rules_.geometry.complete(first + last);
  }
  /// Spans of one chooser and query, at most.
  [[nodiscard]] std::size_t most_spans() const noexcept { return blocks_ + rules_.count * units_.most_spans(); }
  /// Whether anything is left of a unit.
  [[nodiscard]] bool live(std::size_t unit, const resident_tokens& tokens, position first_position) const noexcept {
    if (unit < filed_) return units_.live(unit);
    const auto begin = first_position + static_cast<position>(rules_.geometry.first_of(unit));
    const std::size_t i = tokens.find(begin);
    return i < tokens.slots.size() && tokens.position_of(i) < begin + static_cast<position>(rules_.geometry.unit);
  }
  [[nodiscard]] std::span<std::uint32_t> choice_of(std::size_t chooser) const noexcept {
    return chosen_[1 - now_].subspan((layer_ * choosers_ + chooser) * rules_.count, rules_.count);
  }
  void choose_all(std::size_t units) noexcept {
    for (std::size_t c = 0; c < choosers_; ++c) {
      for (std::size_t u = 0; u < units; ++u) choice_of(c)[u] = static_cast<std::uint32_t>(u);
    }
    chosen_count_[1 - now_][layer_] = static_cast<std::uint32_t>(units);
  }
  /// What all choosers of the layer chose, each unit once.
  [[nodiscard]] std::span<const std::uint32_t> chosen_units() const noexcept {
    const std::size_t each = chosen_count_[1 - now_][layer_];
    std::size_t count = 0;
    for (std::size_t c = 0; c < choosers_; ++c) {
      for (const std::uint32_t unit : choice_of(c).first(each)) {
        const auto end = all_chosen_.begin() + static_cast<std::ptrdiff_t>(count);
        if (std::find(all_chosen_.begin(), end, unit) == end) all_chosen_[count++] = unit;
      }
    }
    return all_chosen_.first(count);
  }
  /// The frame of a unit that is read.
  [[nodiscard]] std::size_t place_of(std::uint32_t unit) const noexcept {
    return tiered() ? tiers.hot.frame_of(layer_, unit) : unit;
  }
  /// Looks up for the mean of the queries begin .. end - 1.
  template <class Turn>
  void look_up_mean(std::size_t begin, std::size_t end, std::size_t units, const resident_tokens& tokens,
                    position first_position, const Turn& turn);
  /// Lists the slots of what a chooser's query t reads besides the cache's view, by block.
  std::span<const key_span> list(std::size_t chooser, std::size_t t, std::size_t end, const resident_tokens& tokens,
                                 position first_position);
  /// Units whose tokens the block of query t no longer finds among the unfiled.
  [[nodiscard]] std::size_t available_now(std::size_t t) const noexcept {
    if (rules_.execution > 0) t = t / rules_.execution * rules_.execution;
    return rules_.geometry.complete(first_ + t);
  }
  /// Fills unit_slots_ with the slots of a unit's tokens, by their place in it.
  void find_slots(std::size_t unit, const resident_tokens& tokens, position first_position) {
    std::fill(unit_slots_.begin(), unit_slots_.end(), nowhere);
    const auto begin = first_position + static_cast<position>(rules_.geometry.first_of(unit));
    const position last = begin + static_cast<position>(rules_.geometry.unit);
    for (std::size_t i = tokens.find(begin); i < tokens.slots.size() && tokens.position_of(i) < last; ++i) {
      unit_slots_[static_cast<std::size_t>(tokens.position_of(i) - begin)] = tokens.slots[i];
    }
  }

  unit_memory_rules rules_;
  model_shape shape_;
  unit_bytes bytes_;
  unit_tiers tiers_;
  evidence_shape evidence_{};
  filed_units units_;
  std::size_t choosers_ = 1;
  std::size_t blocks_ = 0;  // of the cache's own slots
  std::size_t complete_ = 0;
  std::size_t filed_ = 0;
  std::size_t layer_ = 0;  // that is open
  std::size_t first_ = 0;  // stream number of the step's first token
  std::size_t now_ = 0;    // which of two is committed
  std::size_t spans_taken_ = 0;
  std::size_t ahead_count_ = 0;
  resident_tokens resident_{};  // of the step
  position resident_from_ = 0;  // first of the stream

  std::span<std::uint32_t> chosen_[2];          // [layers][choosers][count]
  std::span<std::uint32_t> chosen_count_[2];    // [layers]
  std::span<float> turned_;                     // [query_heads][head_dim]
  std::span<std::uint32_t> sorted_;             // [count]
  std::span<std::uint32_t> rows_;               // [blocks], all 0 between calls
  std::span<std::uint32_t> touched_;            // [blocks]
  std::span<key_span> spans_;                   // [queries][choosers][most_spans()]
  std::span<std::span<const key_span>> reads_;  // [queries][choosers]
  std::span<float> masses_;                     // [unit]
  std::span<slot> unit_slots_;                  // [unit]
  std::span<float> row_;                        // [head_dim]
  std::span<std::uint32_t> all_chosen_;         // [choosers * count], with tiers
  std::span<std::uint32_t> ahead_;              // [choosers * read_ahead]: ranked behind what was chosen
};

/// The memory of a cache whose policy retrieves no units.
struct no_memory {
  static constexpr bool decided_by_attention = false;
};

/// The memory of a select rule.
template <class Select>
struct memory_of {
  using type = no_memory;
};
template <class Lookup>
struct memory_of<retrieve_blocks<Lookup>> {
  using type = block_memory;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#include "kvkeep/memory/block_memory_impl.hpp"

#endif
