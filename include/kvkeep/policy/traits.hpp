// traits: what a policy's rules can do, as concepts, and the sentences that compilers print when they cannot.
#ifndef KVKEEP_POLICY_TRAITS_HPP
#define KVKEEP_POLICY_TRAITS_HPP

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A rule that has a share of the tokens.
template <class R>
concept has_share = requires(const R rule, const unit_place& place) {
  { rule.share() } -> std::convertible_to<std::size_t>;
}
|| requires(const R rule, const unit_place& place) {
  { rule.share(place) } -> std::convertible_to<std::size_t>;
};

namespace detail {

struct no_column {};
struct no_state {};

template <class R>
[[nodiscard]] consteval auto evidence_type() {
  if constexpr (requires { typename R::evidence; })
    return std::type_identity<typename R::evidence>{};
  else
    return std::type_identity<no_evidence>{};
}
template <class R>
[[nodiscard]] consteval auto column_type() {
  if constexpr (requires { typename R::column; })
    return std::type_identity<typename R::column>{};
  else
    return std::type_identity<no_column>{};
}
template <class R>
[[nodiscard]] consteval auto state_type() {
  if constexpr (requires { typename R::state; })
    return std::type_identity<typename R::state>{};
  else
    return std::type_identity<no_state>{};
}
template <class R>
using evidence_t = typename decltype(evidence_type<R>())::type;
template <class R>
using column_t = typename decltype(column_type<R>())::type;
template <class R>
using state_t = typename decltype(state_type<R>())::type;

template <class R>
inline constexpr bool has_column = !std::is_same_v<column_t<R>, no_column>;
template <class R>
inline constexpr bool has_state = !std::is_same_v<state_t<R>, no_state>;
template <class R>
inline constexpr bool wants_surprisal = std::is_same_v<evidence_t<R>, surprisal>;
template <class E>
inline constexpr bool known_evidence =
    std::is_same_v<E, no_evidence> || std::is_same_v<E, surprisal> || std::is_same_v<E, attention_mass> ||
    std::is_same_v<E, last_query_row> || std::is_same_v<E, window_rows> || std::is_same_v<E, hidden_states>;

template <class R>
concept mentions_claims = requires {
  &R::claims;
};
template <class R>
concept claims_with_state = has_state<R> && requires(const R rule, const held_token& t, const state_t<R>& s) {
  { rule.claims(t, s) } -> std::convertible_to<bool>;
};
template <class R>
concept has_claims = claims_with_state<R> || requires(const R rule, const held_token& t) {
  { rule.claims(t) } -> std::convertible_to<bool>;
};
template <class R>
concept mentions_rank = requires {
  &R::rank;
};
template <class R>
concept ranks_token = requires(const R rule, const held_token& t) {
  { rule.rank(t) } -> std::convertible_to<double>;
};
template <class R>
concept ranks_state = has_state<R> && requires(const R rule, const held_token& t, const state_t<R>& s) {
  { rule.rank(t, s) } -> std::convertible_to<double>;
};
template <class R>
concept ranks_column = has_column<R> && requires(const R rule, const held_token& t, column_t<R> c) {
  { rule.rank(t, c) } -> std::convertible_to<double>;
};
template <class R>
concept ranks_both = has_column<R> && has_state<R> &&
    requires(const R rule, const held_token& t, column_t<R> c, const state_t<R>& s) {
  { rule.rank(t, c, s) } -> std::convertible_to<double>;
};
/// The rule chooses by rank; without, the newest stay.
template <class R>
concept ranks = ranks_token<R> || ranks_state<R> || ranks_column<R> || ranks_both<R>;
template <class R>
concept admits = requires(const R rule, float e) {
  { rule.admit(e) } -> std::convertible_to<column_t<R>>;
};
template <class R>
concept mentions_end_turn = requires {
  &R::end_turn;
};
template <class R>
concept has_end_turn = has_column<R> && requires(const R rule, column_t<R> c) {
  { rule.end_turn(c) } -> std::convertible_to<column_t<R>>;
};
template <class R>
concept mentions_end_step = requires {
  &R::end_step;
};
template <class R>
concept has_end_step = has_column<R> && requires(const R rule, column_t<R> c) {
  { rule.end_step(c) } -> std::convertible_to<column_t<R>>;
};
template <class R>
concept advances = requires(const R rule, const state_t<R>& s, const held_token& t) {
  { rule.advance(s, t) } -> std::convertible_to<state_t<R>>;
};
template <class R>
concept mentions_start = requires {
  &R::start;
};
template <class R>
concept starts_by_place = requires(const R rule, const unit_place& place) {
  { rule.start(place) } -> std::convertible_to<state_t<R>>;
};
template <class R>
concept has_start = starts_by_place<R> || requires(const R rule) {
  { rule.start() } -> std::convertible_to<state_t<R>>;
};
template <class R>
concept mentions_check = requires {
  &R::check;
};
template <class R>
concept has_check = requires(const R rule) {
  { rule.check() } -> std::same_as<result<void>>;
};
template <class R>
concept mentions_scope = requires {
  R::scope;
};
template <class R>
concept has_scope = requires {
  { R::scope } -> std::same_as<const kvkeep::scope&>;
};
template <class R>
concept shares_by_place = requires(const R rule, const unit_place& place) {
  { rule.share(place) } -> std::convertible_to<std::size_t>;
};
template <class R>
inline constexpr bool pays = !requires {
  requires !R::pays;
};
template <class R>
inline constexpr bool pays_first = requires {
  requires R::pays_first;
};
template <class R>
inline constexpr bool fills = requires {
  requires R::fills;
};
template <class R>
inline constexpr bool makes_room = requires {
  requires R::makes_room;
};
template <class R>
inline constexpr bool leaves_runs = requires {
  requires R::leaves_runs;
};

template <class R>
inline constexpr bool refuses = requires {
  requires R::refuses;
};

template <class R>
[[nodiscard]] constexpr kvkeep::scope scope_of() noexcept {
  if constexpr (has_scope<R>) return R::scope;
  return kvkeep::scope::sequence;
}
template <class R>
[[nodiscard]] constexpr std::size_t share_of(const R& rule, const unit_place& place) {
  if constexpr (shares_by_place<R>) {
    return rule.share(place);
  } else {
    return rule.share();
  }
}
template <class R>
[[nodiscard]] result<void> check_of(const R& rule) {
  if constexpr (has_check<R>) return rule.check();
  return {};
}

/// Sentences about one retain rule; instantiated before anything else of it, so that the sentence comes first.
template <class R>
struct explain_retain_rule {
  static_assert(std::copyable<R>, "kvkeep: a retain rule must be a copyable value; see kvkeep/policy/policy.hpp");
  static_assert(has_share<R>,
                "kvkeep: a retain rule needs `std::size_t share() const`, the tokens it keeps at most; see "
                "kvkeep/policy/policy.hpp");
  static_assert(
      !std::is_same_v<evidence_t<R>, attention_mass> && !std::is_same_v<evidence_t<R>, last_query_row> &&
          !std::is_same_v<evidence_t<R>, window_rows>,
      "kvkeep: nobody supplies the evidence this retain rule consumes: the attention kernel does not gather it");
  static_assert(!std::is_same_v<evidence_t<R>, hidden_states>,
                "kvkeep: nobody supplies the evidence this retain rule consumes: attend takes no hidden states");
  static_assert(!mentions_claims<R> || has_claims<R>,
                "kvkeep: a retain rule's `claims` must be `bool claims(const kvkeep::held_token&) const`; see "
                "kvkeep/policy/policy.hpp");
  static_assert(
      !mentions_rank<R> || ranks<R>,
      "kvkeep: a retain rule's `rank` must be `double rank(const kvkeep::held_token&) const`, or take its column, "
      "its state or both, in this order, as well; see kvkeep/policy/policy.hpp");
  static_assert(
      !shares_by_place<R> || scope_of<R>() != kvkeep::scope::sequence,
      "kvkeep: a retain rule whose `share` depends on the place needs `static constexpr kvkeep::scope scope` = "
      "layer or kv_head; see kvkeep/policy/policy.hpp");
  static_assert(!mentions_scope<R> || has_scope<R>,
                "kvkeep: a retain rule's `scope` must be `static constexpr kvkeep::scope scope`; see "
                "kvkeep/policy/policy.hpp");
  static_assert(!mentions_check<R> || has_check<R>,
                "kvkeep: a rule's `check` must be `kvkeep::result<void> check() const`; see kvkeep/policy/policy.hpp");
  static_assert(
      !mentions_end_turn<R> || has_end_turn<R>,
      "kvkeep: a retain rule's `end_turn` must be `column end_turn(column) const`; see kvkeep/policy/policy.hpp");
  static_assert(
      !mentions_end_step<R> || has_end_step<R>,
      "kvkeep: a retain rule's `end_step` must be `column end_step(column) const`; see kvkeep/policy/policy.hpp");
  static_assert(pays<R> || !pays_first<R>,
                "kvkeep: a retain rule that does not pay cannot pay first; see kvkeep/policy/policy.hpp");
  static_assert(!has_state<R> || (std::is_trivially_copyable_v<state_t<R>> && advances<R>),
                "kvkeep: a retain rule with a trivially copyable `state` needs `state advance(state, const "
                "kvkeep::held_token&) const`; see kvkeep/policy/policy.hpp");
  static_assert(!mentions_start<R> || has_start<R>,
                "kvkeep: a retain rule's `start` must be `state start() const` or `state start(const "
                "kvkeep::unit_place&) const`; see kvkeep/policy/policy.hpp");
  static_assert(known_evidence<evidence_t<R>>,
                "kvkeep: a retain rule's `evidence` must be one of those in kvkeep/policy/policy.hpp");
  static_assert(!has_column<R> || std::is_trivially_copyable_v<column_t<R>>,
                "kvkeep: a retain rule's `column` must be trivially copyable; see kvkeep/policy/policy.hpp");
  static_assert(!has_column<R> || admits<R>,
                "kvkeep: a retain rule with a `column` needs `column admit(float evidence) const`; see "
                "kvkeep/policy/policy.hpp");
  static_assert(has_column<R> == wants_surprisal<R>,
                "kvkeep: a retain rule that consumes evidence needs a `column` to keep it, and a column needs evidence "
                "(`using evidence = kvkeep::surprisal;`); see kvkeep/policy/policy.hpp");
  static constexpr bool value = true;
};

template <class P>
concept has_rules = requires(const P& p) {
  p.rules();
};

/// Sentences about a policy as a whole.
template <class P>
struct explain_policy {
  static_assert(
      has_rules<P>,
      "kvkeep: a policy needs `rules()`: give kvkeep::policy{retain, select, distance, when} or a preset; see "
      "kvkeep/policy/policy.hpp");
  static constexpr bool value = has_rules<P>;
};
template <class S>
concept mentions_reads = requires {
  &S::reads;
};
template <class S>
concept mentions_label = requires {
  &S::label;
};
template <class S>
concept has_label = requires(const S rule, position p) {
  { rule.label(p, p) } -> std::same_as<key_label>;
};
template <class S>
concept pattern_select = requires(const S rule, position p) {
  { rule.reads(p, p) } -> std::convertible_to<bool>;
};
/// A select rule whose pattern of positions differs by layer and kv head.
template <class S>
concept variant_select = requires(const S rule, std::size_t variant, position p, const unit_place& place) {
  { rule.variants() } -> std::convertible_to<std::size_t>;
  { rule.variant(place) } -> std::convertible_to<std::size_t>;
  { rule.reads(variant, p, p) } -> std::convertible_to<bool>;
};
/// A select rule that reads memory units.
template <class S>
concept unit_select = requires {
  requires S::has_units;
};
/// Whether what a retain rule keeps is what a select rule finds the rest by.
template <class S, class Retain>
inline constexpr bool keeps_for = true;
template <class S, class Retain>
  requires unit_select<S>
inline constexpr bool keeps_for<S, Retain> = S::template goes_with<Retain>;
template <class W>
concept schedules = requires(const W when) {
  { when.schedule() } -> std::same_as<kvkeep::schedule>;
  { W::chunk_invariant } -> std::convertible_to<bool>;
};
template <class Rules>
struct explain_axes {
  static_assert(std::is_same_v<std::remove_cvref_t<decltype(Rules::select)>, read_all> ||
                    pattern_select<std::remove_cvref_t<decltype(Rules::select)>> ||
                    variant_select<std::remove_cvref_t<decltype(Rules::select)>> ||
                    unit_select<std::remove_cvref_t<decltype(Rules::select)>>,
                "kvkeep: a select rule must be read_all, retrieve_blocks, middle_top_k, nearest_keys or have `bool "
                "reads(position query, position "
                "key) const`, or `variants`, `variant` and `bool reads(std::size_t variant, position query, position "
                "key) const`; see kvkeep/policy/policy.hpp");
  static_assert(!unit_select<std::remove_cvref_t<decltype(Rules::select)>> ||
                    std::is_same_v<std::remove_cvref_t<decltype(Rules::distance)>, beyond>,
                "kvkeep: a select rule that reads what was dropped from a window needs kvkeep::beyond as its distance");
  static_assert(
      keeps_for<std::remove_cvref_t<decltype(Rules::select)>, std::remove_cvref_t<decltype(Rules::retain)>>,
      "kvkeep: retrieve_blocks goes with kvkeep::keep{kvkeep::sinks{...}, kvkeep::unfiled{...}} as its retain "
      "rules, middle_top_k and nearest_keys with kvkeep::keep{kvkeep::sinks{...}, kvkeep::recent{...}}");
  static_assert(
      !mentions_label<std::remove_cvref_t<decltype(Rules::select)>> ||
          has_label<std::remove_cvref_t<decltype(Rules::select)>>,
      "kvkeep: a select rule's `label` must be `kvkeep::key_label label(position query, position key) const`; see "
      "kvkeep/policy/policy.hpp");
  static_assert(!mentions_storage<std::remove_cvref_t<decltype(Rules::distance)>> ||
                    has_storage<std::remove_cvref_t<decltype(Rules::distance)>>,
                "kvkeep: a distance rule's `storage` must be `kvkeep::key_storage storage(const kvkeep::retention&) "
                "const`; see kvkeep/position/distance.hpp");
  static_assert(distance_rule<std::remove_cvref_t<decltype(Rules::distance)>>,
                "kvkeep: a distance rule needs `position operator()(const kvkeep::key_place&) const`; see "
                "kvkeep/position/distance.hpp");
  static_assert(
      schedules<std::remove_cvref_t<decltype(Rules::when)>>,
      "kvkeep: `when` must be each_token, before_step, after_step or have `kvkeep::schedule schedule() const` and "
      "`static constexpr bool chunk_invariant`; see kvkeep/policy/policy.hpp");
  static constexpr bool value = true;
};

/// The product that a policy or preset stands for.
template <class P>
using rules_t = std::remove_cvref_t<decltype(std::declval<const P&>().rules())>;

}  // namespace detail

/// A retain rule, as the head of this page describes it.
template <class R>
concept retain_rule = std::copyable<R> && has_share<R> &&
    (!detail::mentions_claims<R> || detail::has_claims<R>)&&(!detail::mentions_rank<R> || detail::ranks<R>);
/// A select rule: read_all, a pattern of positions, or one that retrieves memory units.
template <class S>
concept select_rule = std::copyable<S> &&
    (std::is_same_v<S, read_all> || detail::pattern_select<S> || detail::variant_select<S> || detail::unit_select<S>);
/// When retain acts.
template <class W>
concept when_rule = std::copyable<W> && detail::schedules<W>;

/// A type that stands for a policy: kvkeep::policy or a preset.
template <class P>
concept policy_like = std::copyable<P> && detail::has_rules<P>;

KVKEEP_NAMESPACE_END

#endif
