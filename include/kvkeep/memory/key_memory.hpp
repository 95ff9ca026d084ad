// key_memory: all keys that were dropped, and the search for those that a query would attend to most.
#ifndef KVKEEP_MEMORY_KEY_MEMORY_HPP
#define KVKEEP_MEMORY_KEY_MEMORY_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/running_top_k.hpp"
#include "kvkeep/memory/block_memory.hpp"
#include "kvkeep/memory/key_indexes.hpp"
#include "kvkeep/memory/key_scan.hpp"
#include "kvkeep/memory/resident_tokens.hpp"
#include "kvkeep/policy/select/middle_top_k.hpp"
#include "kvkeep/policy/select/nearest_keys.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// What tells the rules apart that read dropped keys.
template <class Rule>
struct key_search;
template <>
struct key_search<middle_top_k> {
  using index = exact_scan;
  static constexpr bool all_or_none = true;
  [[nodiscard]] static bool together(const middle_top_k&) noexcept { return false; }
  [[nodiscard]] static bool last_alone(const middle_top_k& rule) noexcept { return rule.rows == step_rows::last; }
  [[nodiscard]] static std::optional<std::size_t> ceiling(const middle_top_k&) noexcept { return std::nullopt; }
};
template <class Index>
struct key_search<basic_nearest_keys<Index>> {
  using index = Index;
  using rule_type = basic_nearest_keys<Index>;
  static constexpr bool all_or_none = false;
  [[nodiscard]] static bool together(const rule_type& rule) noexcept { return rule.chooses == chosen_by::kv_head; }
  [[nodiscard]] static bool last_alone(const rule_type&) noexcept { return false; }
  [[nodiscard]] static std::optional<std::size_t> ceiling(const rule_type& rule) noexcept { return rule.ceiling; }
};

/// The indexes of a memory that looks at every key.
struct no_indexes {};
template <class Index>
[[nodiscard]] consteval auto indexes_type() {
  if constexpr (std::is_same_v<Index, exact_scan>) {
    return std::type_identity<no_indexes>{};
  } else {
    static_assert(key_index<Index>,
                  "kvkeep: the index of basic_nearest_keys must be a kvkeep::key_index; see kvkeep/core/key_index.hpp");
    return std::type_identity<key_indexes<Index>>{};
  }
}

/// The memory of middle_top_k and of nearest_keys. A token that is dropped gets the row of its stream number, sinks apart.
template <class Rule>
class key_memory {
  using kind = key_search<Rule>;

 public:
  static constexpr bool decided_by_attention = false;
  /// Whether filed keys are found by an index; else each of them is looked at.
  static constexpr bool indexed = !std::is_same_v<typename kind::index, exact_scan>;

  template <class Rules>
  key_memory(const Rules& rules, const model_shape& shape)
      : rule_(rules.select),
        window_(rules.distance.window),
        shape_(shape),
        searches_(kind::together(rule_) ? 1 : shape.group()) {
    std::apply(
        [&](const auto&... rule) {
          const auto take = [&](const auto& each) {
            if constexpr (requires { each.unbounded_first(); }) sinks_ = each.unbounded_first();
          };
          (take(rule), ...);
        },
        rule_tuple<std::remove_cvref_t<decltype(rules.retain)>>::of(rules.retain));
  }

  void lay_out(arena& memory, const evidence_shape& evidence) {
    blocks_ = evidence.slots / block_tokens;
    filed_rows_ = memory.take<std::uint16_t>(filed_blocks());
    scores_ = memory.take<float>(searches_ * scanned_keys);
    best_ = memory.take<running_top_k>(searches_);
    running_top_k of_search;
    for (std::size_t s = 0; s < searches_; ++s) {
      of_search.lay_out(memory, rule_.count, filed_blocks() * block_tokens + evidence.slots);
      if (!best_.empty()) best_[s] = of_search;
    }
    chosen_ = memory.take<std::uint32_t>(shape_.layers * choosers() * rule_.count);
    chosen_count_ = memory.take<std::uint32_t>(shape_.layers * choosers());
    turned_ = memory.take<float>(shape_.group() * shape_.head_dim);
    found_ = memory.take<std::uint32_t>(indexed ? rule_.count : 0);
    spans_ = memory.take<key_span>(evidence.together * choosers() * rule_.count);
    reads_ = memory.take<std::span<const key_span>>(evidence.together * choosers());
  }
  void reset() {
    if constexpr (indexed) indexes_.clear();
    filed_ = live_ = 0;
    std::fill(filed_rows_.begin(), filed_rows_.end(), std::uint16_t{0});
    std::fill(chosen_count_.begin(), chosen_count_.end(), 0U);
  }

  /// Bytes of the indexes, which are not the arena's.
  [[nodiscard]] std::size_t index_bytes() const {
    if constexpr (indexed) {
      const std::size_t keys = filed_blocks() * block_tokens;
      return keys == 0 ? 0 : index_count() * kind::index::bytes(rule_.index, shape_.head_dim, keys);
    } else {
      return 0;
    }
  }
  [[nodiscard]] result<void> make_indexes() requires(indexed) {
    if (filed_blocks() == 0) return {};
    return indexes_.make(rule_.index, index_count(), shape_.head_dim, filed_blocks() * block_tokens);
  }
  /// An error where an index does not have what was filed.
  [[nodiscard]] result<void> check_indexes() const requires(indexed) { return indexes_.check(); }

  [[nodiscard]] std::size_t max_tokens() const noexcept { return rule_.max_tokens; }
  /// At which keys are searched for.
  [[nodiscard]] position distance() const noexcept { return static_cast<position>(rule_.at); }
  [[nodiscard]] std::size_t choosers() const noexcept { return shape_.kv_heads * searches_; }
  [[nodiscard]] const layer_range& layers() const noexcept { return rule_.layers; }
  [[nodiscard]] bool retrieves_in(std::size_t layer) const noexcept { return rule_.layers.has(layer); }
  [[nodiscard]] std::size_t filed_blocks() const noexcept {
    return rule_.max_tokens < sinks_ ? 0 : (rule_.max_tokens - sinks_ + block_tokens - 1) / block_tokens;
  }
  [[nodiscard]] slot filed_slot(std::size_t number) const noexcept {
    return to_slot(blocks_ * block_tokens + number - sinks_);
  }
  /// The stream numbers of what a chooser read for the query that was attended last in a layer, best first.
  [[nodiscard]] std::span<const std::uint32_t> chosen(std::size_t layer, std::size_t chooser) const noexcept {
    const std::size_t at = layer * choosers() + chooser;
    return chosen_.subspan(at * rule_.count, chosen_count_[at]);
  }

  void begin_layer(std::size_t layer, std::size_t first, std::size_t n) noexcept {
    layer_ = layer;
    first_ = first;
    last_ = n - 1;
  }
  [[nodiscard]] static std::size_t segment_end(std::size_t, std::size_t n) noexcept { return n; }

  /// Lists what the queries first .. first + count - 1 read; raw_lane_of(kv_head) has raw keys.
  template <class Turn, class LaneOf>
  [[nodiscard]] result<std::size_t> choose(std::size_t first, std::size_t count, std::size_t, std::size_t,
                                           const resident_tokens& tokens, position first_position, const Turn& turn,
                                           const LaneOf& raw_lane_of) {
    std::fill(reads_.begin(), reads_.end(), std::span<const key_span>{});
    std::size_t taken = 0;
    for (std::size_t t = first; t < first + count; ++t) {
      if (kind::last_alone(rule_) && t != last_) continue;
      // Dropped in this step, but still in slots of the cache: all between the sinks and the newest that are held.
      const std::size_t begin = tokens.find(first_position + static_cast<position>(sinks_));
      const std::size_t seen = first_ + t + 1;
      const std::size_t come = tokens.find(first_position + static_cast<position>(seen));
      const std::size_t end = come > begin + window_ ? come - window_ : begin;
      std::fill_n(chosen_count_.begin() + static_cast<std::ptrdiff_t>(layer_ * choosers()), choosers(), 0U);
      const std::size_t wanted = (std::min)(rule_.count, live_ + (end - begin));
      if (wanted == 0 || (kind::all_or_none && wanted < rule_.count)) continue;
      const std::span<const slot> dropped = tokens.slots.subspan(begin, end - begin);
      for (std::size_t head = 0; head < shape_.kv_heads; ++head) {
        turn_queries(t, head, turn);
        for (running_top_k& best : best_) best.reset(wanted);
        const auto& lane = raw_lane_of(head);
        if constexpr (indexed) {
          if (auto ok = offer_found(head, lane); !ok) return ok.error();
        } else {
          offer_filed(lane);
        }
        offer_dropped(dropped, lane);
        for (std::size_t s = 0; s < searches_; ++s) {
          const std::size_t chooser = head * searches_ + s;
          const std::span<const key_span> read =
              take_best(chooser, seen - 1, tokens, begin, first_position, spans_.subspan(taken, wanted));
          reads_[(t - first) * choosers() + chooser] = read;
          taken += read.size();
        }
      }
    }
    return count;
  }
  [[nodiscard]] std::span<const std::span<const key_span>> reads() const noexcept { return reads_; }

  void commit(std::size_t) noexcept {}
  /// Files a token that was dropped: copy(from, to) copies its rows.
  template <class Copy>
  void file(std::size_t number, slot from, const Copy& copy) {
    if (number < sinks_) return;
    copy(from, filed_slot(number));
    const std::size_t row = number - sinks_;
    filed_rows_[row / block_tokens] |= static_cast<std::uint16_t>(1U << row % block_tokens);
    filed_ = (std::max)(filed_, row + 1);
    ++live_;
  }
  /// Adds a filed token to the indexes: read(place, slot) gives its raw key [head_dim] in the lane of a layer and kv head, counted
  /// from the first that has filed tokens.
  template <class Read>
  void index(std::size_t number, const Read& read) requires(indexed) {
    if (number < sinks_) return;
    indexes_.add(number - sinks_, [&](std::size_t place) { return read(place, filed_slot(number)); });
  }
  static void set_filed_after(std::size_t, std::size_t) noexcept {}
  void erase(std::size_t first, std::size_t last) {
    for (std::size_t number = std::max(first, sinks_); number < std::min(last, sinks_ + filed_); ++number) {
      std::uint16_t& rows = filed_rows_[(number - sinks_) / block_tokens];
      const auto bit = static_cast<std::uint16_t>(1U << (number - sinks_) % block_tokens);
      if ((rows & bit) == 0) continue;
      rows = static_cast<std::uint16_t>(rows & ~bit);
      --live_;
      if constexpr (indexed) indexes_.remove(number - sinks_);
    }
  }
  static void drop(slot) noexcept {}
  static void move(slot, slot) noexcept {}

 private:
  [[nodiscard]] std::size_t filed_rows() const noexcept {
    return (filed_ + block_tokens - 1) / block_tokens * block_tokens;
  }
  [[nodiscard]] std::size_t index_count() const noexcept {
    return rule_.layers.before(shape_.layers) * shape_.kv_heads;
  }
  /// The queries of the searches of a kv head.
  template <class Turn>
  void turn_queries(std::size_t t, std::size_t head, const Turn& turn) {
    const std::size_t dim = shape_.head_dim;
    const std::size_t group = shape_.group();
    for (std::size_t g = 0; g < group; ++g) turn(t, head * group + g, turned_.subspan(g * dim, dim));
    if (searches_ < group) {  // the sum of the scores is the score of the sum
      for (std::size_t i = dim; i < group * dim; ++i) turned_[i % dim] += turned_[i];
    }
  }
  /// Offers the filed keys to the searches of a kv head.
  template <class Lane>
  void offer_filed(const Lane& lane) {
    scan_keys(lane, blocks_, filed_rows() / block_tokens, turned_, searches_, scores_.data(),
              [&](std::size_t block, std::size_t count) {
                for (std::size_t s = 0; s < searches_; ++s) {
                  best_[s].offer((block - blocks_) * block_tokens, &scores_[s * scanned_keys],
                                 filed_rows_.subspan(block - blocks_, count));
                }
              });
  }
  /// Offers each search of a kv head the filed keys that its index finds, all where they are few.
  template <class Lane>
  [[nodiscard]] result<void> offer_found(std::size_t head, const Lane& lane) {
    const std::size_t place = rule_.layers.before(layer_) * shape_.kv_heads + head;
    for (std::size_t s = 0; s < searches_; ++s) {
      const std::span<const float> query = turned_.subspan(s * shape_.head_dim, shape_.head_dim);
      const auto offer = [&](std::size_t filed, std::uint16_t rows) {
        scan_keys(lane, blocks_ + filed, 1, query, 1, scores_.data(), [&](std::size_t, std::size_t) {
          best_[s].offer(filed * block_tokens, scores_.data(), {&rows, 1});
        });
      };
      if (live_ <= rule_.count) {
        for (std::size_t b = 0; b < filed_rows() / block_tokens; ++b) {
          if (filed_rows_[b] != 0) offer(b, filed_rows_[b]);
        }
        continue;
      }
      const auto found =
          indexes_.search(place, query, found_, [&](std::size_t row) { return row < filed_rows() && is_filed(row); });
      if (!found) return found.error();
      for (std::size_t i = 0; i < found->size();) {
        const std::size_t block = (*found)[i] / block_tokens;
        unsigned rows = 0;
        for (; i < found->size() && (*found)[i] / block_tokens == block; ++i) rows |= 1U << (*found)[i] % block_tokens;
        offer(block, static_cast<std::uint16_t>(rows));
      }
    }
    return {};
  }
  /// Offers the searches of a kv head the keys that were dropped in this step, numbered behind the filed rows. By the same
  /// arithmetic, so that a key's score does not depend on when it is filed.
  template <class Lane>
  void offer_dropped(std::span<const slot> dropped, const Lane& lane) {
    std::array<float, running_top_k::piece> alone{};
    constexpr std::uint16_t first = 1;
    for (std::size_t i = 0; i < dropped.size(); ++i) {
      const std::size_t at = kvkeep::index(dropped[i]);
      if (i == 0 || at / block_tokens != kvkeep::index(dropped[i - 1]) / block_tokens) {
        scan_keys(lane, at / block_tokens, 1, turned_, searches_, scores_.data(), [](std::size_t, std::size_t) {});
      }
      for (std::size_t s = 0; s < searches_; ++s) {
        alone[0] = scores_[s * scanned_keys + at % block_tokens];
        best_[s].offer(filed_rows() + i, alone.data(), {&first, 1});
      }
    }
  }
  [[nodiscard]] bool is_filed(std::size_t row) const noexcept {
    return (std::uint32_t{filed_rows_[row / block_tokens]} >> row % block_tokens & 1U) != 0;
  }
  /// What a search chose for the query with a stream number, as more_reads wants it. Token number `first` is the oldest of those
  /// dropped in this step.
  std::span<const key_span> take_best(std::size_t chooser, std::size_t query, const resident_tokens& tokens,
                                      std::size_t first, position first_position, std::span<key_span> out) {
    running_top_k& best = best_[chooser % searches_];
    best.finish();
    const std::size_t rows = filed_rows();
    const auto chosen = best.numbers();
    const auto number_of = [&](std::uint32_t i) {
      return i < rows ? sinks_ + i : static_cast<std::size_t>(tokens.position_of(first + i - rows) - first_position);
    };
    const auto slot_of = [&](std::uint32_t i) {
      return i < rows ? blocks_ * block_tokens + i : kvkeep::index(tokens.slots[first + i - rows]);
    };
    // Those of one distance, the oldest; then those that are nearer, each at a distance of its own.
    const auto ceiling = kind::ceiling(rule_);
    const auto nearer = !ceiling ? chosen.end() : std::find_if(chosen.begin(), chosen.end(), [&](std::uint32_t i) {
      return query - number_of(i) < *ceiling;
    });
    // Filed rows ascend, behind all of the cache's own slots: spans are made in their order.
    std::size_t count = 0;
    const auto angle = static_cast<position>(ceiling.value_or(rule_.at));
    const auto filed_end = std::lower_bound(chosen.begin(), nearer, static_cast<std::uint32_t>(rows));
    for (auto it = filed_end; it != nearer; ++it) add_slot(slot_of(*it), angle, out, count);
    for (auto it = chosen.begin(); it != filed_end; ++it) add_slot(slot_of(*it), angle, out, count);
    for (auto it = nearer; it != chosen.end(); ++it) {
      const std::size_t s = slot_of(*it);
      out[count++] = {static_cast<position>(query - number_of(*it)), static_cast<std::uint32_t>(s / block_tokens),
                      1U << s % block_tokens, true};
    }
    best.sort();
    const std::size_t at = layer_ * choosers() + chooser;
    chosen_count_[at] = static_cast<std::uint32_t>(best.numbers().size());
    std::transform(best.numbers().begin(), best.numbers().end(), &chosen_[at * rule_.count],
                   [&](std::uint32_t i) { return static_cast<std::uint32_t>(number_of(i)); });
    return out.first(count);
  }
  /// Adds a slot to the first `count` spans, which have the same angle and ascend by block.
  static void add_slot(std::size_t s, position angle, std::span<key_span> spans, std::size_t& count) noexcept {
    const auto block = static_cast<std::uint32_t>(s / block_tokens);
    std::size_t i = count;
    while (i > 0 && spans[i - 1].block > block) --i;
    if (i > 0 && spans[i - 1].block == block) {
      spans[i - 1].mask |= 1U << s % block_tokens;
      return;
    }
    const auto at = [&](std::size_t k) { return spans.begin() + static_cast<std::ptrdiff_t>(k); };
    std::copy_backward(at(i), at(count), at(count + 1));
    spans[i] = {angle, block, 1U << s % block_tokens, true};
    ++count;
  }

  Rule rule_;
  std::size_t sinks_ = 0;
  std::size_t window_ = 1;
  model_shape shape_;
  std::size_t searches_ = 1;  // of a kv head
  std::size_t blocks_ = 0;    // of the cache's own slots
  std::size_t filed_ = 0;     // rows up to the newest that was filed
  std::size_t live_ = 0;      // of them, those that are there
  std::size_t layer_ = 0;
  std::size_t first_ = 0;  // stream number of the step's first token
  std::size_t last_ = 0;   // query of the step

  [[no_unique_address]] typename decltype(indexes_type<typename kind::index>())::type indexes_;

  std::span<std::uint16_t> filed_rows_;         // [filed blocks]: rows that are there
  std::span<float> scores_;                     // [searches][scanned_keys]
  std::span<running_top_k> best_;               // [searches]
  std::span<std::uint32_t> chosen_;             // [layers][choosers][count]: stream numbers
  std::span<std::uint32_t> chosen_count_;       // [layers][choosers]
  std::span<float> turned_;                     // [group][head_dim]
  std::span<std::uint32_t> found_;              // [count], where keys are found by an index: rows, ascending
  std::span<key_span> spans_;                   // [queries][choosers][count]
  std::span<std::span<const key_span>> reads_;  // [queries][choosers]
};

template <>
struct memory_of<middle_top_k> {
  using type = key_memory<middle_top_k>;
};
template <class Index>
struct memory_of<basic_nearest_keys<Index>> {
  using type = key_memory<basic_nearest_keys<Index>>;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
