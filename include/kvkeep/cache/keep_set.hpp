// keep_set: which of a list of tokens the union of retain rules keeps.
#ifndef KVKEEP_CACHE_KEEP_SET_HPP
#define KVKEEP_CACHE_KEEP_SET_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/rule_limits.hpp"

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
  static constexpr bool any_rank = (ranks<Rules> || ...);
  static constexpr bool any_end_step = (has_end_step<Rules> || ...);
  static constexpr bool any_refuses = (refuses<Rules> || ...);
  static constexpr bool any_claims = (has_claims<Rules> || ...);
  static constexpr bool any_makes_room = (makes_room<Rules> || ...);
  static constexpr bool runs = (leaves_runs<Rules> && ...);
  static constexpr kvkeep::scope finest = (std::max)({scope_of<Rules>()...});
  static_assert((explain_retain_rule<Rules>::value && ...));
  static_assert(!any_refuses || count == 1,
                "kvkeep: keep_all keeps every token and stands alone; in a union nothing would be left to the others");

  keep_set(const std::tuple<Rules...>& rules, position first_position)
      : rules_(rules), first_position_(first_position) {}

  /// Takes the scratch for lists of up to `tokens` tokens, the columns of `slots` slots and the states of `units` units
  /// from the arena.
  void lay_out(arena& memory, std::size_t tokens, std::size_t slots, std::size_t units) {
    taken_ = memory.take<std::uint8_t>(tokens);
    ranked_ = memory.take<ranked_token>(any_rank ? tokens : 0);
    each_rule([&]<std::size_t R>() {
      using rule_type = rule_at<R>;
      std::get<R>(columns_) = memory.take<column_t<rule_type>>(has_column<rule_type> ? slots : 0);
      std::get<R>(states_) = memory.take<state_t<rule_type>>(has_state<rule_type> ? units : 0);
      std::get<R>(planned_) = memory.take<state_t<rule_type>>(has_state<rule_type> ? units : 0);
    });
  }

  [[nodiscard]] result<void> check() const {
    result<void> first;
    std::apply([&](const auto&... rule) { ((first ? void(first = check_of(rule)) : void()), ...); }, rules_);
    return first;
  }

  /// An error where a rule does not fit the model or the schedule.
  [[nodiscard]] result<void> check_with(const model_shape& shape, const schedule& when) const {
    result<void> first;
    const auto one = [&](const auto& rule) {
      if (first) first = check_shape_of(rule, shape);
      if (first) first = check_when_of(rule, when);
    };
    std::apply([&](const auto&... rule) { (one(rule), ...); }, rules_);
    return first;
  }
  /// Where decisions really differ.
  [[nodiscard]] kvkeep::scope used_scope() const {
    return std::apply([](const auto&... rule) { return (std::max)({used_scope_of(rule)...}); }, rules_);
  }
  /// The tokens of the longest stream that all rules can do with.
  [[nodiscard]] std::size_t longest() const {
    return std::apply([](const auto&... rule) { return (std::min)({longest_of(rule)...}); }, rules_);
  }

  [[nodiscard]] shares full_shares(const unit_place& place) const {
    return std::apply([&](const auto&... rule) { return shares{share_of(rule, place)...}; }, rules_);
  }
  /// Shares without what n coming tokens take: the share written last pays first, but for those that say they do. What
  /// cannot be paid is left out.
  [[nodiscard]] shares reduced_shares(shares all, std::size_t n) const {
    constexpr std::array<bool, count> paying{pays<Rules>...};
    constexpr std::array<bool, count> at_once{pays_first<Rules>...};
    for (const bool first : {true, false}) {
      for (std::size_t r = count; r-- > 0;) {
        if (!paying[r] || at_once[r] != first) continue;
        const std::size_t paid = (std::min)(n, all[r]);
        all[r] -= paid;
        n -= paid;
      }
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

  /// Marks which of `tokens` tokens of a unit, oldest first, are kept, and returns how many are not. place(i) gives the
  /// stream position of token i, where(i) its slot; tokens from `fresh` on have no evidence yet and rank first.
  template <class Place, class Where>
  std::size_t mark(std::size_t unit, const shares& all, std::size_t tokens, std::size_t fresh, const Place& place,
                   const Where& where) {
    std::fill_n(taken_.begin(), tokens, std::uint8_t{0});
    list<Place, Where> seen{tokens, fresh, first_position_, unit, place, where, 0, tokens};
    std::size_t taken = 0;
    std::size_t due = 0;  // shares of the rules so far
    each_rule([&]<std::size_t R>() {
      due += all[R];
      taken += mark_rule<R>(fills<rule_at<R>> ? due - taken : all[R], seen);
    });
    return tokens - taken;
  }
  /// Marks all of `tokens` tokens as kept.
  void mark_all(std::size_t tokens) noexcept { std::fill_n(taken_.begin(), tokens, std::uint8_t{1}); }
  [[nodiscard]] bool kept(std::size_t i) const noexcept { return taken_[i] != 0; }
  /// Calls f(i) for every token i < tokens that is not kept, oldest first.
  template <class F>
  void each_dropped(std::size_t tokens, const F& f) const {
    const std::uint8_t* const begin = taken_.data();
    const std::uint8_t* at = begin;
    const auto left = [&] { return tokens - static_cast<std::size_t>(at - begin); };
    while (left() > 0 && (at = static_cast<const std::uint8_t*>(std::memchr(at, 0, left()))) != nullptr) {
      f(static_cast<std::size_t>(at++ - begin));
    }
  }

  /// Whether a list of so many tokens of a unit is kept whole in any case: a rule that claims all has room for it.
  [[nodiscard]] bool keeps_whole(std::size_t unit, const shares& all, std::size_t tokens) const {
    bool whole = false;
    each_rule([&]<std::size_t R>() { whole = whole || (tokens <= all[R] && claims_all<R>(unit)); });
    return whole;
  }

  /// Sets the columns of a token from its evidence.
  void admit(slot s, float evidence) {
    each_rule([&]<std::size_t R>() {
      if constexpr (has_column<rule_at<R>>) std::get<R>(columns_)[index(s)] = std::get<R>(rules_).admit(evidence);
    });
  }
  void move_columns(slot from, slot to) {
    each_rule([&]<std::size_t R>() {
      if constexpr (has_column<rule_at<R>>) std::get<R>(columns_)[index(to)] = std::get<R>(columns_)[index(from)];
    });
  }
  void end_turn(slot s) {
    each_rule([&]<std::size_t R>() {
      if constexpr (has_end_turn<rule_at<R>>) {
        auto& column = std::get<R>(columns_)[index(s)];
        column = std::get<R>(rules_).end_turn(column);
      }
    });
  }

  void end_step(slot s) {
    each_rule([&]<std::size_t R>() {
      if constexpr (has_end_step<rule_at<R>>) {
        auto& column = std::get<R>(columns_)[index(s)];
        column = std::get<R>(rules_).end_step(column);
      }
    });
  }

  // States. Rules see the planned ones; they equal the committed ones but while a step is planned or committed.

  /// The states of all units, whose layers and kv heads place_of(unit) gives, as before the first token.
  template <class PlaceOf>
  void reset_states(std::size_t units, const PlaceOf& place_of) {
    each_rule([&]<std::size_t R>() {
      if constexpr (has_state<rule_at<R>>) {
        for (std::size_t u = 0; u < units; ++u) {
          if constexpr (starts_by_place<rule_at<R>>) {
            std::get<R>(states_)[u] = std::get<R>(rules_).start(place_of(u));
          } else if constexpr (requires { std::get<R>(rules_).start(); }) {
            std::get<R>(states_)[u] = std::get<R>(rules_).start();
          } else {
            std::get<R>(states_)[u] = {};
          }
          std::get<R>(planned_)[u] = std::get<R>(states_)[u];
        }
      }
    });
  }
  /// Plans from the committed states on.
  void begin_states(std::size_t unit) noexcept {
    each_rule([&]<std::size_t R>() {
      if constexpr (has_state<rule_at<R>>) std::get<R>(planned_)[unit] = std::get<R>(states_)[unit];
    });
  }
  void advance_states(std::size_t unit, const held_token& token) {
    each_rule([&]<std::size_t R>() {
      if constexpr (has_state<rule_at<R>>) {
        auto& state = std::get<R>(planned_)[unit];
        state = std::get<R>(rules_).advance(state, token);
      }
    });
  }
  /// Commits the planned states, or forgets them.
  void keep_states(std::size_t unit) noexcept {
    each_rule([&]<std::size_t R>() {
      if constexpr (has_state<rule_at<R>>) std::get<R>(states_)[unit] = std::get<R>(planned_)[unit];
    });
  }
  void drop_states(std::size_t unit) noexcept { begin_states(unit); }

 private:
  template <std::size_t R>
  using rule_at = std::tuple_element_t<R, std::tuple<Rules...>>;

  struct ranked_token {
    double rank;
    std::uint32_t token;
    bool fresh;  // has no evidence yet: stays before all that have

    [[nodiscard]] bool operator<(const ranked_token& other) const noexcept {
      if (fresh != other.fresh) return fresh;
      return rank > other.rank || (rank == other.rank && token < other.token);  // ties: the older wins
    }
  };
  template <class Place, class Where>
  struct list {
    std::size_t tokens;
    std::size_t fresh;
    position first_position;
    std::size_t unit;
    const Place& place;
    const Where& where;
    std::size_t mixed;  // from here to `end` nobody took a token
    std::size_t end;    // from here on all are taken

    [[nodiscard]] held_token token(std::size_t i) const {
      const position at = place(i);
      return {at, at - first_position, i, tokens};
    }
  };

  /// Calls f<0>(), f<1>(), ... in the order the rules are written.
  template <class F>
  static void each_rule(const F& f) {
    [&]<std::size_t... R>(std::index_sequence<R...>) { (f.template operator()<R>(), ...); }
    (std::make_index_sequence<count>{});
  }

  template <class R>
  static void describe_one(const R& rule, position& oldest, bool& unbounded, retention& out) {
    if constexpr (requires { rule.unbounded_first(); }) {
      out.unbounded_first = (std::max)(out.unbounded_first, rule.unbounded_first());
    } else if constexpr (requires { rule.oldest(); }) {
      const std::optional<position> most = rule.oldest();
      const bool bounded = most && *most <= position_limit;
      if (bounded) oldest += (std::max)(*most, position{0});
      unbounded = unbounded || !bounded;
    } else {
      unbounded = true;
    }
  }

  template <std::size_t R>
  [[nodiscard]] bool claims_all(std::size_t unit) const {
    if constexpr (!has_claims<rule_at<R>>) {
      return true;
    } else if constexpr (requires { std::get<R>(rules_).claims_all(std::get<R>(planned_)[unit]); }) {
      return std::get<R>(rules_).claims_all(std::get<R>(planned_)[unit]);
    } else {
      return false;
    }
  }
  template <std::size_t R>
  [[nodiscard]] bool claims(const held_token& token, std::size_t unit) const {
    const auto& rule = std::get<R>(rules_);
    if constexpr (claims_with_state<rule_at<R>>) {
      return rule.claims(token, std::get<R>(planned_)[unit]);
    } else if constexpr (has_claims<rule_at<R>>) {
      return rule.claims(token);
    } else {
      return true;
    }
  }
  /// The rank of a token, the lowest of all where a rule gives NaN. `s` is its slot, unless it is fresh.
  template <std::size_t R>
  [[nodiscard]] double rank(const held_token& token, std::size_t unit, slot s) const {
    const auto& rule = std::get<R>(rules_);
    double value = 0.0;
    if constexpr (ranks_both<rule_at<R>>) {
      value = rule.rank(token, std::get<R>(columns_)[index(s)], std::get<R>(planned_)[unit]);
    } else if constexpr (ranks_column<rule_at<R>>) {
      value = rule.rank(token, std::get<R>(columns_)[index(s)]);
    } else if constexpr (ranks_state<rule_at<R>>) {
      value = rule.rank(token, std::get<R>(planned_)[unit]);
    } else {
      value = rule.rank(token);
    }
    return value == value ? value : -std::numeric_limits<double>::infinity();
  }

  template <std::size_t R, class List>
  std::size_t mark_rule(std::size_t share, List& seen) {
    if constexpr (ranks<rule_at<R>>) return mark_ranked<R>(share, seen);
    std::size_t taken = 0;
    if constexpr (!has_claims<rule_at<R>>) {  // a stretch, as far as older rules left one
      taken = (std::min)(share, seen.end - seen.mixed);
      seen.end -= taken;
      std::fill_n(taken_.begin() + static_cast<std::ptrdiff_t>(seen.end), taken, std::uint8_t{1});
    }
    std::size_t i = seen.end;
    if constexpr (requires { std::get<R>(rules_).unbounded_first(); }) {
      i = (std::min)(i, std::get<R>(rules_).unbounded_first());
    }
    while (i-- > 0 && taken < share) {
      if (taken_[i] != 0 || !claims<R>(seen.token(i), seen.unit)) continue;
      taken_[i] = 1;
      ++taken;
      seen.mixed = (std::max)(seen.mixed, i + 1);
    }
    return taken;
  }

  template <std::size_t R, class List>
  std::size_t mark_ranked(std::size_t share, List& seen) {
    constexpr bool by_column = ranks_column<rule_at<R>> || ranks_both<rule_at<R>>;
    std::size_t candidates = 0;
    ranked_token last{};  // of the candidates, the one that goes first
    std::size_t last_place = 0;
    for (std::size_t i = 0; i < seen.end; ++i) {
      if (taken_[i] != 0) continue;
      const held_token token = seen.token(i);
      if (!claims<R>(token, seen.unit)) continue;
      const bool fresh = by_column && i >= seen.fresh;
      const double value = fresh ? 0.0 : rank<R>(token, seen.unit, by_column ? seen.where(i) : slot{});
      const ranked_token mine{value, static_cast<std::uint32_t>(i), fresh};
      if (candidates == 0 || last < mine) {
        last = mine;
        last_place = candidates;
      }
      ranked_[candidates++] = mine;
    }
    const std::size_t taken = (std::min)(share, candidates);
    const auto first = ranked_.begin();
    if (taken + 1 == candidates) {  // one token more than there is room for: most steps of one token
      std::swap(ranked_[last_place], ranked_[taken]);
    } else if (taken < candidates && taken > 0) {
      std::nth_element(first, first + static_cast<std::ptrdiff_t>(taken - 1),
                       first + static_cast<std::ptrdiff_t>(candidates));
    }
    for (std::size_t i = 0; i < taken; ++i) taken_[ranked_[i].token] = 1;
    seen.mixed = seen.end;
    return taken;
  }

  std::tuple<Rules...> rules_;
  position first_position_;
  std::tuple<std::span<state_t<Rules>>...> states_;    // [units] each, where the rule has one: committed
  std::tuple<std::span<state_t<Rules>>...> planned_;   // [units] each: what rules see
  std::tuple<std::span<column_t<Rules>>...> columns_;  // [slots] each, where the rule has one
  std::span<std::uint8_t> taken_;                      // [tokens]
  std::span<ranked_token> ranked_;                     // [tokens], where a rule ranks
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
