// keep_set: which of a list of tokens the union of retain rules keeps.
#ifndef KVKEEP_CACHE_KEEP_SET_HPP
#define KVKEEP_CACHE_KEEP_SET_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <tuple>
#include <utility>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/policy/retain/keep.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The rules of a retain answer at work. Rules is a std::tuple of retain rules.
template <class Rules>
class keep_set;

template <class... Rules>
class keep_set<std::tuple<Rules...>> {
 public:
  static constexpr std::size_t count = sizeof...(Rules);
  using shares = std::array<std::size_t, count>;

  static constexpr bool any_surprisal = (wants_surprisal<Rules> || ...);
  static constexpr bool any_rank = ((ranks_token<Rules> || ranks_column<Rules>) || ...);
  static constexpr bool any_refuses = (refuses<Rules> || ...);
  static constexpr bool runs = (leaves_runs<Rules> && ...);
  static constexpr kvkeep::scope finest = (std::max)({scope_of<Rules>()...});
  static_assert((explain_retain_rule<Rules>::value && ...));
  static_assert(!any_refuses || count == 1,
                "kvkeep: keep_all keeps every token and stands alone; in a union nothing would be left to the others");

  explicit keep_set(const std::tuple<Rules...>& rules) : rules_(rules) {}

  /// Takes the scratch for lists of up to `tokens` tokens and the columns of `slots` slots from the arena.
  void lay_out(arena& memory, std::size_t tokens, std::size_t slots) {
    taken_ = memory.take<std::uint8_t>(tokens);
    ranked_ = memory.take<ranked_token>(any_rank ? tokens : 0);
    std::apply([&](auto&... column) { ((column = take_column(memory, column, slots)), ...); }, columns_);
  }

  [[nodiscard]] result<void> check() const {
    result<void> first;
    std::apply([&](const auto&... rule) { ((first ? void(first = check_of(rule)) : void()), ...); }, rules_);
    return first;
  }

  [[nodiscard]] shares full_shares(const unit_place& place) const {
    return std::apply([&](const auto&... rule) { return shares{share_of(rule, place)...}; }, rules_);
  }
  /// Shares without what n coming tokens take: the share written last pays first. What cannot be paid is left out.
  [[nodiscard]] shares reduced_shares(shares all, std::size_t n) const {
    constexpr std::array<bool, count> paying{pays<Rules>...};
    for (std::size_t r = count; r-- > 0;) {
      if (!paying[r]) continue;
      const std::size_t paid = (std::min)(n, all[r]);
      all[r] -= paid;
      n -= paid;
    }
    return all;
  }
  [[nodiscard]] static std::size_t sum(const shares& all) noexcept {
    std::size_t total = 0;
    for (const std::size_t s : all) total += s;
    return total;
  }
  [[nodiscard]] static std::size_t payable(const shares& all) noexcept {
    constexpr std::array<bool, count> paying{pays<Rules>...};
    std::size_t total = 0;
    for (std::size_t r = 0; r < count; ++r) total += paying[r] ? all[r] : 0;
    return total;
  }

  /// What the rules promise of the ages of what they keep (retention::oldest, rest, unbounded_first).
  void describe(retention& out) const {
    bool unbounded = false;
    position oldest = 0;
    std::apply([&](const auto&... rule) { (describe_one(rule, oldest, unbounded, out), ...); }, rules_);
    out.rest = oldest - 1;
    if (unbounded) out.rest.reset();
    if (!unbounded && out.unbounded_first == 0) out.oldest = oldest - 1;
    out.few_runs = runs;
  }

  /// Marks which of `tokens` tokens, oldest first, are kept, and returns how many are not. place(i) gives the stream
  /// position of token i, where(i) its slot; tokens from `fresh` on have no evidence yet and rank first.
  template <class Place, class Where>
  std::size_t mark(const shares& all, std::size_t tokens, std::size_t fresh, position first_position,
                   const Place& place, const Where& where) {
    std::fill_n(taken_.begin(), tokens, std::uint8_t{0});
    list<Place, Where> seen{tokens, fresh, first_position, place, where};
    const std::size_t taken = mark_rules(all, seen, std::make_index_sequence<count>{});
    return tokens - taken;
  }
  [[nodiscard]] bool kept(std::size_t i) const noexcept { return taken_[i] != 0; }

  /// Whether a list of so many tokens is kept whole in any case: a rule that claims all has room for it.
  [[nodiscard]] bool keeps_whole(const shares& all, std::size_t tokens) const noexcept {
    constexpr std::array<bool, count> claims_all{!has_claims<Rules>...};
    for (std::size_t r = 0; r < count; ++r) {
      if (claims_all[r] && tokens <= all[r]) return true;
    }
    return false;
  }

  /// Sets the columns of a token from its evidence.
  void admit(slot s, float evidence) {
    each_column([&](const auto& rule, auto& column) { column[index(s)] = rule.admit(evidence); });
  }
  void move_columns(slot from, slot to) {
    each_column([&](const auto&, auto& column) { column[index(to)] = column[index(from)]; });
  }
  void end_turn(slot s) {
    each_column([&](const auto& rule, auto& column) {
      if constexpr (requires { rule.end_turn(column[index(s)]); }) column[index(s)] = rule.end_turn(column[index(s)]);
    });
  }
  /// The column of a token under rule R.
  template <std::size_t R>
  [[nodiscard]] auto column(slot s) const {
    return std::get<R>(columns_)[index(s)];
  }

 private:
  struct ranked_token {
    double rank;
    std::uint32_t token;
  };
  template <class Place, class Where>
  struct list {
    std::size_t tokens;
    std::size_t fresh;
    position first_position;
    const Place& place;
    const Where& where;

    [[nodiscard]] held_token token(std::size_t i) const {
      const position at = place(i);
      return {at, at - first_position, i, tokens};
    }
  };

  template <class Column>
  static std::span<Column> take_column(arena& memory, std::span<Column>, std::size_t slots) {
    return memory.take<Column>(std::is_same_v<Column, no_column> ? 0 : slots);
  }
  template <class F>
  void each_column(const F& f) {
    each_column_at(f, std::make_index_sequence<count>{});
  }
  template <class F, std::size_t... R>
  void each_column_at(const F& f, std::index_sequence<R...>) {
    (each_column_one<R>(f), ...);
  }
  template <std::size_t R, class F>
  void each_column_one(const F& f) {
    if constexpr (has_column<std::tuple_element_t<R, std::tuple<Rules...>>>)
      f(std::get<R>(rules_), std::get<R>(columns_));
  }

  template <class R>
  static void describe_one(const R& rule, position& oldest, bool& unbounded, retention& out) {
    if constexpr (requires { rule.unbounded_first(); }) {
      out.unbounded_first = (std::max)(out.unbounded_first, rule.unbounded_first());
    } else if constexpr (requires { rule.oldest(); }) {
      oldest += rule.oldest();
    } else {
      unbounded = true;
    }
  }

  template <class List, std::size_t... R>
  std::size_t mark_rules(const shares& all, const List& seen, std::index_sequence<R...>) {
    return (std::size_t{0} + ... + mark_rule<R>(all[R], seen));
  }

  template <std::size_t R, class List>
  std::size_t mark_rule(std::size_t share, const List& seen) {
    using rule_type = std::tuple_element_t<R, std::tuple<Rules...>>;
    const rule_type& rule = std::get<R>(rules_);
    if constexpr (ranks_token<rule_type> || ranks_column<rule_type>) {
      return mark_ranked<R>(rule, share, seen);
    } else {
      std::size_t taken = 0;
      for (std::size_t i = seen.tokens; i-- > 0 && taken < share;) {
        if (taken_[i] != 0) continue;
        if constexpr (has_claims<rule_type>) {
          if (!rule.claims(seen.token(i))) continue;
        }
        taken_[i] = 1;
        ++taken;
      }
      return taken;
    }
  }

  template <std::size_t R, class Rule, class List>
  std::size_t mark_ranked(const Rule& rule, std::size_t share, const List& seen) {
    std::size_t candidates = 0;
    for (std::size_t i = 0; i < seen.tokens; ++i) {
      if (taken_[i] != 0) continue;
      const held_token token = seen.token(i);
      if constexpr (has_claims<Rule>) {
        if (!rule.claims(token)) continue;
      }
      double rank = std::numeric_limits<double>::infinity();
      if constexpr (ranks_column<Rule>) {
        if (i < seen.fresh) rank = rule.rank(token, std::get<R>(columns_)[index(seen.where(i))]);
      } else {
        rank = rule.rank(token);
      }
      ranked_[candidates++] = {rank, static_cast<std::uint32_t>(i)};
    }
    const std::size_t taken = (std::min)(share, candidates);
    const auto first = ranked_.begin();
    if (taken < candidates && taken > 0) {
      std::nth_element(first, first + static_cast<std::ptrdiff_t>(taken - 1),
                       first + static_cast<std::ptrdiff_t>(candidates),
                       [](const ranked_token& a, const ranked_token& b) {
                         return a.rank > b.rank || (a.rank == b.rank && a.token < b.token);  // ties: the older wins
                       });
    }
    for (std::size_t i = 0; i < taken; ++i) taken_[ranked_[i].token] = 1;
    return taken;
  }

  std::tuple<Rules...> rules_;
  std::tuple<std::span<column_t<Rules>>...> columns_;  // [slots] each, where the rule has one
  std::span<std::uint8_t> taken_;                      // [tokens]
  std::span<ranked_token> ranked_;                     // [tokens], where a rule ranks
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
