// key_memory: all keys that were dropped, and the search for those that a query would attend to most.
#ifndef KVKEEP_MEMORY_KEY_MEMORY_HPP
#define KVKEEP_MEMORY_KEY_MEMORY_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/top_k.hpp"
#include "kvkeep/memory/block_memory.hpp"
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
  static constexpr bool all_or_none = true;
  [[nodiscard]] static bool together(const middle_top_k&) noexcept { return false; }
  [[nodiscard]] static bool last_alone(const middle_top_k& rule) noexcept { return rule.rows == step_rows::last; }
};
template <>
struct key_search<nearest_keys> {
  static constexpr bool all_or_none = false;
  [[nodiscard]] static bool together(const nearest_keys& rule) noexcept { return rule.chooses == chosen_by::kv_head; }
  [[nodiscard]] static bool last_alone(const nearest_keys&) noexcept { return false; }
};

/// The memory of middle_top_k and of nearest_keys. A token that is dropped gets the row of its stream number, sinks apart.
template <class Rule>
class key_memory {
  using kind = key_search<Rule>;

 public:
  static constexpr bool decided_by_attention = false;

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
    const std::size_t rows = filed_blocks() * block_tokens + evidence.slots;
    filed_rows_ = memory.take<std::uint16_t>(filed_blocks());
    scores_ = memory.take<float>(searches_ * rows);
    best_ = memory.take<std::uint32_t>(rule_.count);
    scratch_ = memory.take<std::uint32_t>(top_k_scratch(rows));
    chosen_ = memory.take<std::uint32_t>(shape_.layers * choosers() * rule_.count);
    chosen_count_ = memory.take<std::uint32_t>(shape_.layers * choosers());
    block_scores_ = memory.take<float>(searches_ * block_tokens);
    turned_ = memory.take<float>(shape_.group() * shape_.head_dim);
    spans_ = memory.take<key_span>(evidence.together * choosers() * rule_.count);
    reads_ = memory.take<std::span<const key_span>>(evidence.together * choosers());
  }
  void reset() noexcept {
    filed_ = live_ = 0;
    std::fill(filed_rows_.begin(), filed_rows_.end(), std::uint16_t{0});
    std::fill(chosen_count_.begin(), chosen_count_.end(), 0U);
  }

  [[nodiscard]] std::size_t max_tokens() const noexcept { return rule_.max_tokens; }
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
      // Dropped in this step: still in slots of the cache.
      const std::size_t begin = tokens.find(first_position + static_cast<position>(sinks_ + filed_));
      const std::size_t seen = first_ + t + 1;
      const std::size_t end =
          seen <= window_ ? begin
                          : std::max(begin, tokens.find(first_position + static_cast<position>(seen - window_)));
      std::fill_n(chosen_count_.begin() + static_cast<std::ptrdiff_t>(layer_ * choosers()), choosers(), 0U);
      const std::size_t wanted = (std::min)(rule_.count, live_ + (end - begin));
      if (wanted == 0 || (kind::all_or_none && wanted < rule_.count)) continue;
      for (std::size_t head = 0; head < shape_.kv_heads; ++head) {
        score(t, head, tokens.slots.subspan(begin, end - begin), turn, raw_lane_of(head));
        for (std::size_t s = 0; s < searches_; ++s) {
          const std::size_t chooser = head * searches_ + s;
          const std::span<key_span> mine = spans_.subspan(taken, wanted);
          const std::span<const key_span> read = best(chooser, wanted, tokens, begin, end, first_position, mine);
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
    ++live_;
  }
  void set_filed_after(std::size_t first, std::size_t n) noexcept {
    const std::size_t tokens = first + n;
    filed_ = tokens > sinks_ + window_ ? tokens - sinks_ - window_ : 0;
  }
  void erase(std::size_t first, std::size_t last) noexcept {
    for (std::size_t number = std::max(first, sinks_); number < std::min(last, sinks_ + filed_); ++number) {
      std::uint16_t& rows = filed_rows_[(number - sinks_) / block_tokens];
      const auto bit = static_cast<std::uint16_t>(1U << (number - sinks_) % block_tokens);
      if ((rows & bit) == 0) continue;
      rows = static_cast<std::uint16_t>(rows & ~bit);
      --live_;
    }
  }
  static void drop(slot) noexcept {}
  static void move(slot, slot) noexcept {}

 private:
  [[nodiscard]] std::size_t filed_rows() const noexcept {
    return (filed_ + block_tokens - 1) / block_tokens * block_tokens;
  }
  [[nodiscard]] std::span<float> scores_of(std::size_t search) const noexcept {
    return scores_.subspan(search * (scores_.size() / searches_), scores_.size() / searches_);
  }
  /// The scores of the searches of a kv head: of the filed rows, NaN where there is none, then of those that were dropped in this step.
  template <class Turn, class Lane>
  void score(std::size_t t, std::size_t head, std::span<const slot> dropped, const Turn& turn, const Lane& lane) {
    const std::size_t dim = shape_.head_dim;
    const std::size_t group = shape_.group();
    const std::size_t blocks = filed_rows() / block_tokens;
    for (std::size_t g = 0; g < group; ++g) turn(t, head * group + g, turned_.subspan(g * dim, dim));
    if (searches_ < group) {  // the sum of the scores is the score of the sum
      for (std::size_t i = dim; i < group * dim; ++i) turned_[i % dim] += turned_[i];
    }
    scan_keys(lane, blocks_, blocks, turned_, searches_, scores_.data(), scores_.size() / searches_);
    for (std::size_t b = 0; b < blocks; ++b) {
      if (filed_rows_[b] == 0xFFFFU) continue;
      for (std::size_t r = 0; r < block_tokens; ++r) {
        if ((std::uint32_t{filed_rows_[b]} >> r & 1U) != 0) continue;
        for (std::size_t g = 0; g < searches_; ++g)
          scores_of(g)[b * block_tokens + r] = std::numeric_limits<float>::quiet_NaN();
      }
    }
    // By the same arithmetic, so that a key's score does not depend on when it is filed.
    for (std::size_t i = 0; i < dropped.size(); ++i) {
      const std::size_t at = kvkeep::index(dropped[i]);
      if (i == 0 || at / block_tokens != kvkeep::index(dropped[i - 1]) / block_tokens) {
        scan_keys(lane, at / block_tokens, 1, turned_, searches_, block_scores_.data(), block_tokens);
      }
      for (std::size_t g = 0; g < searches_; ++g) {
        scores_of(g)[filed_rows() + i] = block_scores_[g * block_tokens + at % block_tokens];
      }
    }
  }
  [[nodiscard]] bool is_filed(std::size_t row) const noexcept {
    return (std::uint32_t{filed_rows_[row / block_tokens]} >> row % block_tokens & 1U) != 0;
  }
  /// The best `wanted` keys of a chooser, of which there are so many, as spans, by block; first .. last - 1 of the tokens are those
  /// dropped in this step.
  std::span<const key_span> best(std::size_t chooser, std::size_t wanted, const resident_tokens& tokens,
                                 std::size_t first, std::size_t last, position first_position,
                                 std::span<key_span> out) {
    const std::size_t rows = filed_rows();
    const std::span<float> scores = scores_of(chooser % searches_).first(rows + (last - first));
    std::span<std::uint32_t> chosen = *try_top_k(scores, wanted, best_, scratch_);
    if (std::any_of(chosen.begin(), chosen.end(), [&](std::uint32_t row) { return row < rows && !is_filed(row); })) {
      // Keys whose scores are NaN come last, but before those that are not there.
      for (std::size_t row = 0; row < scores.size(); ++row) {
        if (is_nan(scores[row]) && (row >= rows || is_filed(row))) {
          scores[row] = -std::numeric_limits<float>::infinity();
        }
      }
      chosen = *try_top_k(scores, wanted, best_, scratch_);
    }
    // Filed rows ascend, behind all of the cache's own slots: spans are made in their order.
    std::size_t count = 0;
    const auto filed = std::lower_bound(chosen.begin(), chosen.end(), static_cast<std::uint32_t>(rows));
    for (auto it = filed; it != chosen.end(); ++it) {
      add_slot(kvkeep::index(tokens.slots[first + *it - rows]), out, count);
    }
    for (auto it = chosen.begin(); it != filed; ++it) add_slot(blocks_ * block_tokens + *it, out, count);
    const auto rank = [&](std::uint32_t i) {
      return is_nan(scores[i]) ? -std::numeric_limits<float>::infinity() : scores[i];
    };
    std::sort(chosen.begin(), chosen.end(),
              [&](std::uint32_t a, std::uint32_t b) { return rank(a) > rank(b) || (rank(a) == rank(b) && a < b); });
    const std::size_t at = layer_ * choosers() + chooser;
    chosen_count_[at] = static_cast<std::uint32_t>(chosen.size());
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      chosen_[at * rule_.count + k] = static_cast<std::uint32_t>(
          chosen[k] < rows ? sinks_ + chosen[k]
                           : static_cast<std::size_t>(tokens.position_of(first + chosen[k] - rows) - first_position));
    }
    return out.first(count);
  }
  /// Adds a slot to the first `count` spans, which ascend by block.
  void add_slot(std::size_t s, std::span<key_span> spans, std::size_t& count) const noexcept {
    const auto block = static_cast<std::uint32_t>(s / block_tokens);
    std::size_t i = count;
    while (i > 0 && spans[i - 1].block > block) --i;
    if (i > 0 && spans[i - 1].block == block) {
      spans[i - 1].mask |= 1U << s % block_tokens;
      return;
    }
    const auto at = [&](std::size_t k) { return spans.begin() + static_cast<std::ptrdiff_t>(k); };
    std::copy_backward(at(i), at(count), at(count + 1));
    spans[i] = {distance(), block, 1U << s % block_tokens, true};
    ++count;
  }

  Rule rule_;
  std::size_t sinks_ = 0;
  std::size_t window_ = 1;
  model_shape shape_;
  std::size_t searches_ = 1;  // of a kv head
  std::size_t blocks_ = 0;    // of the cache's own slots
  std::size_t filed_ = 0;     // tokens behind the sinks that were dropped, erased ones too
  std::size_t live_ = 0;      // of them, those that are there
  std::size_t layer_ = 0;
  std::size_t first_ = 0;  // stream number of the step's first token
  std::size_t last_ = 0;   // query of the step

  std::span<std::uint16_t> filed_rows_;  // [filed blocks]: rows that are there
  std::span<float> scores_;              // [searches][filed rows and slots]
  std::span<float> block_scores_;        // [searches][16]
  std::span<std::uint32_t> best_;        // [count]
  std::span<std::uint32_t> scratch_;
  std::span<std::uint32_t> chosen_;             // [layers][choosers][count]: stream numbers
  std::span<std::uint32_t> chosen_count_;       // [layers][choosers]
  std::span<float> turned_;                     // [group][head_dim]
  std::span<key_span> spans_;                   // [queries][choosers][count]
  std::span<std::span<const key_span>> reads_;  // [queries][choosers]
};

template <>
struct memory_of<middle_top_k> {
  using type = key_memory<middle_top_k>;
};
template <>
struct memory_of<nearest_keys> {
  using type = key_memory<nearest_keys>;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
