// THE page to read: what a policy is, and how to write one.
//
// A policy answers three questions and says when it acts:
//   retain    who stays?                     keep{sinks{4}, recent{508}}, keep_all{max_tokens}
//   select    who is read by this query?     read_all, retrieve_blocks, strided, fixed, ...
//   distance  how far away is it?            true_distance, cache_distance, beyond{window, at}, ...
//   when      when does retain act?          each_token, each_block, before_step, after_step
// It is a value: its parameters and nothing else, no base class, no virtual call.
//
//   auto mine = kvkeep::policy{kvkeep::keep{kvkeep::sinks{4}, kvkeep::recent{508}}, kvkeep::read_all{},
//                              kvkeep::cache_distance{}, kvkeep::each_token{}};
//   auto cache = kvkeep::make_cache(shape, mine, options);
//
// A retain rule takes up to `share` of the tokens held. In a union keep{a, b, ...} the rules take in the order written, and a
// token that one took costs a later one nothing; a token that nobody takes is dropped. A rule is a copyable type with
//   std::size_t share() const;                        // tokens it takes at most
//   std::size_t share(const unit_place&) const;       // or so, for rules whose `scope` is a layer or a kv head
//   bool claims(const held_token&) const;             // optional: only these tokens; default all
//   double rank(const held_token&) const;             // optional: the highest stay, ties: the older; default: the newest stay
//   static constexpr bool pays = true;                // optional: false if reserve() may not take from its share
//   static constexpr bool pays_first = true;          // optional: reserve() takes from its share before all others
//   static constexpr bool fills = true;               // optional: takes the places, too, that the rules before it left
//   static constexpr bool leaves_runs = true;         // optional: what it takes is a few ranges of consecutive tokens
//   position oldest() const;                          // optional: largest age + 1 of what it takes while nothing is erased;
//                                                     // or a std::optional, empty where there is none
//   std::size_t unbounded_first() const;              // optional: instead, takes only tokens whose index is below, at any age
//   static constexpr bool makes_room = true;          // optional: reserve() asks nobody to leave, since the rule itself lets go
//                                                     // of what nobody reads any more
//   std::size_t longest() const;                      // optional: a longer stream is an error at begin; 0: none is
//   static constexpr kvkeep::scope scope = ...;       // optional: sequence (default), layer or kv_head
//   kvkeep::scope used_scope() const;                 // optional: a coarser one, where the parameters allow it
//   using evidence = surprisal;                       // optional: what it must be told, see below
//   using column = float;                             // optional: what it remembers of each token, trivially copyable
//   result<void> check() const;                       // optional: parameters out of range
//   result<void> check_shape(const model_shape&) const;   // optional: a model that it does not fit
//   result<void> check_when(const schedule&) const;   // optional: a schedule that it does not go with
// With a column, the rule also has
//   column admit(float evidence) const;               // the column of a token when its evidence arrives (at commit)
//   double rank(const held_token&, column) const;     // instead of rank(const held_token&)
//   column end_turn(column) const;                    // optional: what end_turn() makes of it (decay)
//   column end_step(column) const;                    // optional: what a committed step makes of it, for the tokens held
//                                                     // before the step, once it is decided who leaves
//   using state = ...;                                // optional: what it remembers of a unit, trivially copyable
// With a state, the rule also has
//   state advance(state, const held_token&) const;    // the state after one more token (its index and held are 0);
//                                                     // called for every token, in order, once when it is planned
//                                                     // and again when it is committed
//   state start() const;                              // optional: before the first token; default state{}
//   state start(const unit_place&) const;             // or so, where it differs by layer or kv head
//   bool claims_all(const state&) const;              // optional: whether it claims every token, so that none is asked about
// and claims and rank may take the state as a last argument. The planner owns columns and states, sizes them at
// construction, and moves, drops and rolls them back. Rules should not throw; where one does, the step is undone.
//
// A select rule is a copyable type with
//   bool reads(position query, position key) const;   // of the keys that retain leaves to the query; or none: reads all
//   key_label label(position query, position key) const;   // optional; default window
//   std::size_t longest() const;                      // optional: a longer stream is an error at begin; 0: none is
//   result<void> check() const;                       // optional: parameters out of range
//   result<void> check_shape(const model_shape&) const;   // optional: a model that it does not fit
// What queries read may differ by layer and kv head: then the rule has, instead of its `reads`,
//   std::size_t variants() const;                     // how many differ, >= 1
//   std::size_t variant(const unit_place&) const;     // that of a layer and kv head, below variants()
//   bool reads(std::size_t variant, position query, position key) const;
// A query that reads no key at all, not even its own, gets NaN.
// Distance rules are described in position/distance.hpp.
#ifndef KVKEEP_POLICY_POLICY_HPP
#define KVKEEP_POLICY_POLICY_HPP

#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

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
struct no_evidence {};  ///< positions are enough
struct surprisal {      ///< -ln P(token | before) >= 0, one a token: the caller, at commit({.surprisals = ...})
  double decay = 1.0;   ///< of rules that forget: what end_turn() multiplies it by; greater than 0, up to 1
};
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
  /// each_token decides before every so many tokens of a step, counted from its begin; the others see what the first saw and
  /// those that came since.
  std::size_t together = 1;
};

/// Every query of a step sees exactly what it would have seen had the tokens come one by one: chunk-invariant.
struct each_token {
  static constexpr bool chunk_invariant = true;
  [[nodiscard]] constexpr kvkeep::schedule schedule() const noexcept { return {kvkeep::schedule::act::each_token}; }
};
/// The same, but queries of a step share decisions, `size` of them at a time from its begin on. (InfLLM's execution blocks.)
struct each_block {
  std::size_t size = 512;  ///< tokens, >= 1

  static constexpr bool chunk_invariant = false;
  [[nodiscard]] constexpr kvkeep::schedule schedule() const noexcept {
    return {kvkeep::schedule::act::each_token, kvkeep::schedule::overflow::refuse, size};
  }
  [[nodiscard]] result<void> check() const {
    if (size >= 1) return {};
    return detail::bad_argument("each_block.size", size, ">= 1");
  }
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

KVKEEP_NAMESPACE_END

#include "kvkeep/policy/traits.hpp"

#endif
