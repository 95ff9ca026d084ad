// THE page to read: what a policy is, and how to write one.
//
// A policy answers three questions and says when it acts:
//   retain    who stays?                     keep{sinks{4}, recent{508}}, keep_all{max_tokens}
//   select    who is read by this query?     read_all
//   distance  how far away is it?            true_distance, cache_distance, beyond{window, at}, ...
//   when      when does retain act?          each_token, before_step, after_step
// It is a value: its parameters and nothing else, no base class, no virtual call.
//
//   auto mine = kvkeep::policy{kvkeep::keep{kvkeep::sinks{4}, kvkeep::recent{508}}, kvkeep::read_all{},
//                              kvkeep::cache_distance{}, kvkeep::each_token{}};
//   auto cache = kvkeep::make_cache(shape, mine, options);
//
// A retain rule takes up to `share` of the tokens held. In a union keep{a, b, ...} the rules take in the order written, and a
// token that one took costs a later one nothing; a token that nobody takes is dropped. A rule is a copyable type with
//   std::size_t share() const;                        // tokens it takes at most
//   std::size_t share(const unit_place&) const;       // or so, for rules whose scope is a layer or a kv head
//   bool claims(const held_token&) const;             // optional: only these tokens; default all
//   double rank(const held_token&) const;             // optional: the highest stay, ties: the older; default: the newest stay
//   static constexpr bool pays = true;                // optional: false if reserve() may not take from its share
//   static constexpr bool leaves_runs = true;         // optional: what it takes is a few ranges of consecutive tokens
//   position oldest() const;                          // optional: largest age + 1 of what it takes while nothing is erased
//   static constexpr kvkeep::scope scope = ...;       // optional: sequence (default), layer or kv_head
//   using evidence = surprisal;                       // optional: what it must be told, see below
//   using column = float;                             // optional: what it remembers of each token, trivially copyable
//   result<void> check() const;                       // optional: parameters out of range
// With a column, the rule also has
//   column admit(float evidence) const;               // the column of a token when its evidence arrives (at commit)
//   double rank(const held_token&, column) const;     // instead of rank(const held_token&)
//   column end_turn(column) const;                    // optional: what end_turn() makes of it (decay)
// The planner owns the columns, sizes them at construction, and moves, drops and rolls them back.
//
// A select rule is a copyable type with
//   bool reads(position query, position key) const;   // of the keys that retain leaves to the query; or none: reads all
//   key_label label(position query, position key) const;   // optional; default window
// Distance rules are described in position/distance.hpp.
#ifndef KVKEEP_POLICY_POLICY_HPP
#define KVKEEP_POLICY_POLICY_HPP

#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>

#include "kvkeep/core/types.hpp"
#include "kvkeep/policy/select/read_all.hpp"
#include "kvkeep/position/distance.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A token that is held, as a rule sees it.
struct held_token {
  position at = 0;        ///< stream position
  position number = 0;    ///< place in the stream from its first token: at - first_position
  std::size_t index = 0;  ///< place among the tokens held, oldest first
  std::size_t held = 0;   ///< how many are held
};

/// Where a rule's decisions may differ.
enum class scope : std::uint8_t { sequence, layer, kv_head };

// Evidence: what a rule must be told, and who tells it.
struct no_evidence {};     ///< positions are enough
struct surprisal {};       ///< -ln P(token | before), one a token: the caller, at commit({.surprisals = ...})
struct attention_mass {};  ///< softmax weights summed over queries, by key: the kernel
struct last_query_row {};  ///< the softmax weights of the newest query: the kernel
struct window_rows {};     ///< the softmax weights of the newest queries: the kernel
struct hidden_states {};   ///< the layer's input: the caller, at attend

// When retain acts: a type with `schedule schedule() const` and `static constexpr bool chunk_invariant`.

/// What a `when` stands for.
struct schedule {
  enum class act : std::uint8_t { each_token, before_step, after_step } when = act::each_token;
  /// What before_step does with a step larger than the shares that pay: an error, or (authors' code) all they hold goes and
  /// the cache grows beyond its capacity until the next step.
  enum class overflow : std::uint8_t { refuse, grow } too_large = overflow::refuse;
};

/// Every query of a step sees exactly what it would have seen had the tokens come one by one: chunk-invariant.
struct each_token {
  static constexpr bool chunk_invariant = true;
  [[nodiscard]] constexpr kvkeep::schedule schedule() const noexcept { return {kvkeep::schedule::act::each_token}; }
};
/// Once before a step, for the n tokens that come: room for all of them is made, then they are appended, and every query
/// reads all that is held up to itself. (The authors' StreamingLLM chat; SirLLM's turns.)
struct before_step {
  static constexpr bool chunk_invariant = false;
  [[nodiscard]] constexpr kvkeep::schedule schedule() const noexcept { return {kvkeep::schedule::act::before_step}; }
};
/// Every query reads all that is held up to itself; the step ends with one trim. (The authors' StreamingLLM perplexity
/// script; H2O, TOVA, SnapKV.)
struct after_step {
  static constexpr bool chunk_invariant = false;
  [[nodiscard]] constexpr kvkeep::schedule schedule() const noexcept { return {kvkeep::schedule::act::after_step}; }
};

/// A policy as a product of its four answers. Presets turn into one by `rules()`.
template <class Retain, class Select = read_all, class Distance = true_distance, class When = each_token>
struct policy {
  Retain retain;
  Select select{};
  Distance distance{};
  When when{};

  [[nodiscard]] constexpr const policy& rules() const noexcept { return *this; }
};
template <class Retain>
policy(Retain) -> policy<Retain>;
template <class Retain, class Select>
policy(Retain, Select) -> policy<Retain, Select>;
template <class Retain, class Select, class Distance>
policy(Retain, Select, Distance) -> policy<Retain, Select, Distance>;
template <class Retain, class Select, class Distance, class When>
policy(Retain, Select, Distance, When) -> policy<Retain, Select, Distance, When>;

/// A rule that has a share of the tokens.
template <class R>
concept has_share = requires(const R rule, const unit_place& place) {
  { rule.share() } -> std::convertible_to<std::size_t>;
}
|| requires(const R rule, const unit_place& place) {
  { rule.share(place) } -> std::convertible_to<std::size_t>;
};

namespace detail {

template <class R, class = void>
struct evidence_of {
  using type = no_evidence;
};
template <class R>
struct evidence_of<R, std::void_t<typename R::evidence>> {
  using type = typename R::evidence;
};
template <class R>
using evidence_t = typename evidence_of<R>::type;

struct no_column {};
template <class R, class = void>
struct column_of {
  using type = no_column;
};
template <class R>
struct column_of<R, std::void_t<typename R::column>> {
  using type = typename R::column;
};
template <class R>
using column_t = typename column_of<R>::type;

template <class R>
inline constexpr bool has_column = !std::is_same_v<column_t<R>, no_column>;
template <class R>
inline constexpr bool wants_surprisal = std::is_same_v<evidence_t<R>, surprisal>;

template <class R>
concept mentions_claims = requires {
  &R::claims;
};
template <class R>
concept has_claims = requires(const R rule, const held_token& t) {
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
concept ranks_column = has_column<R> && requires(const R rule, const held_token& t, column_t<R> c) {
  { rule.rank(t, c) } -> std::convertible_to<double>;
};
template <class R>
concept admits = requires(const R rule, float e) {
  { rule.admit(e) } -> std::convertible_to<column_t<R>>;
};
template <class R>
inline constexpr bool pays = !requires {
  requires !R::pays;
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
  if constexpr (requires {
                  { R::scope } -> std::convertible_to<kvkeep::scope>;
                })
    return R::scope;
  return kvkeep::scope::sequence;
}
template <class R>
[[nodiscard]] constexpr std::size_t share_of(const R& rule, const unit_place& place) {
  if constexpr (requires {
                  { rule.share(place) } -> std::convertible_to<std::size_t>;
                }) {
    return rule.share(place);
  } else {
    return rule.share();
  }
}
template <class R>
[[nodiscard]] result<void> check_of(const R& rule) {
  if constexpr (requires {
                  { rule.check() } -> std::same_as<result<void>>;
                })
    return rule.check();
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
      !mentions_rank<R> || ranks_token<R> || ranks_column<R>,
      "kvkeep: a retain rule's `rank` must be `double rank(const kvkeep::held_token&) const`, or take its column "
      "as well; see kvkeep/policy/policy.hpp");
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
concept pattern_select = requires(const S rule, position p) {
  { rule.reads(p, p) } -> std::convertible_to<bool>;
};
template <class W>
concept schedules = requires(const W when) {
  { when.schedule() } -> std::same_as<kvkeep::schedule>;
  { W::chunk_invariant } -> std::convertible_to<bool>;
};
template <class Rules>
struct explain_axes {
  static_assert(std::is_same_v<std::remove_cvref_t<decltype(Rules::select)>, read_all> ||
                    pattern_select<std::remove_cvref_t<decltype(Rules::select)>>,
                "kvkeep: a select rule must be read_all or have `bool reads(position query, position key) const`; see "
                "kvkeep/policy/policy.hpp");
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

/// A type that stands for a policy: kvkeep::policy or a preset.
template <class P>
concept policy_like = std::copyable<P> && detail::has_rules<P>;

KVKEEP_NAMESPACE_END

#endif
