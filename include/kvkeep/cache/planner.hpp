// planner: decides what is kept and who reads what, without touching a byte of keys or values.
//
//   auto plan = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 4, .window = 508}, {.max_step = 64});
//   plan.begin(n);                                     // nothing is lost yet
//   auto where = plan.new_slots(unit);                 // write the new rows there
//   auto view = plan.view(unit, query);                // what query 0 .. n-1 reads, and from how far
//   plan.commit();                                     // now
//   for (auto m : plan.last(unit).moves) copy_row(m.from, m.to);
//
// For engines that own their memory; `cache` drives the same type. What a policy retrieves by attention (inf_llm, unlimiformer,
// lm_infinite::middle) is the cache's affair: a planner of theirs plans what stays at hand, and its views list nothing that was retrieved. Cost: begin and commit O(n * held) per unit, a view
// O(held), and a sort of its spans where they have several angles. One thread at a time. No allocation after construction.
#ifndef KVKEEP_CACHE_PLANNER_HPP
#define KVKEEP_CACHE_PLANNER_HPP

#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kvkeep/cache/keep_set.hpp"
#include "kvkeep/cache/plan.hpp"
#include "kvkeep/cache/token_table.hpp"
#include "kvkeep/cache/view_builder.hpp"
#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

/// The decision plane of a cache under a policy. Units and queries given to its functions must be below units() and
/// step_tokens(). A planner that was moved from may only be destroyed or assigned to.
template <class Policy>
class planner {
  static_assert(detail::explain_policy<Policy>::value);

 public:
  using rules_type = detail::rules_t<Policy>;
  static_assert(detail::explain_axes<rules_type>::value);
  using retain_type = std::remove_cvref_t<decltype(rules_type::retain)>;
  using when_type = std::remove_cvref_t<decltype(rules_type::when)>;
  using select_type = std::remove_cvref_t<decltype(rules_type::select)>;
  using distance_type = std::remove_cvref_t<decltype(rules_type::distance)>;
  using keep_type = detail::keep_set<typename detail::rule_tuple<retain_type>::type>;

  /// The finest scope that the policy's types allow; used_scope() may be coarser.
  static constexpr kvkeep::scope scope = keep_type::finest;
  /// Whether the policy asks for surprisals at commit.
  static constexpr bool wants_surprisals = keep_type::any_surprisal;

  /// A planner for `shape`. Errors: shape, policy or options out of range; a policy whose tables would not fit 2^32 slots.
  [[nodiscard]] static result<planner> try_make(const model_shape& shape, const Policy& policy,
                                                const planner_options& options);
  /// Bytes that the planner allocates (all of them at construction).
  [[nodiscard]] static result<std::size_t> try_bytes(const model_shape& shape, const Policy& policy,
                                                     const planner_options& options);

  /// A planner without memory, for counting; only planned_blocks, kept, storage, raw and largest_distance may be used.
  /// The arguments must have passed try_bytes.
  planner(const model_shape& shape, const Policy& policy, const planner_options& options, detail::measure_t);

  // Where decisions differ.

  /// Where the policy's retain decisions differ.
  [[nodiscard]] kvkeep::scope used_scope() const noexcept { return used_scope_; }
  /// Units: 1, layers, or layers * kv_heads, by the policy's scope.
  [[nodiscard]] std::size_t units() const noexcept { return units_; }
  [[nodiscard]] std::size_t unit_of(std::size_t layer, std::size_t kv_head) const noexcept {
    if (used_scope_ == kvkeep::scope::sequence) return 0;
    if (used_scope_ == kvkeep::scope::layer) return layer;
    return layer * shape_.kv_heads + kv_head;
  }
  /// How many patterns of reading there are, of which each layer and kv head has one; 1 where all read alike.
  [[nodiscard]] std::size_t variants() const {
    if constexpr (detail::variant_select<select_type>) return rules_.select.variants();
    return 1;
  }
  /// That of a layer and kv head, below variants().
  [[nodiscard]] std::size_t variant_of(std::size_t layer, std::size_t kv_head) const {
    if constexpr (detail::variant_select<select_type>) return rules_.select.variant(unit_place{layer, kv_head});
    return 0;
  }
  /// Blocks of 16 slots that all units share: slots are below 16 times that.
  [[nodiscard]] std::size_t planned_blocks() const {
    std::size_t blocks = 0;
    for (std::size_t u = 0; u < units_; ++u) blocks += detail::blocks_for(in_step(u));
    return blocks;
  }
  /// Stream position of the token in a slot, one of held_slots or step_slots.
  [[nodiscard]] position position_of(slot s) const noexcept { return table_.at(s); }
  /// The same for all slots, [slots]; what a slot without a token has means nothing.
  [[nodiscard]] std::span<const position> positions() const noexcept { return table_.positions(); }
  /// Stream position of the first token of a stream.
  [[nodiscard]] position first_position() const noexcept { return options_.first_position; }
  [[nodiscard]] const rules_type& rules() const noexcept { return rules_; }
  /// Tokens that a unit holds after a step, at most.
  [[nodiscard]] std::size_t capacity(std::size_t unit = 0) const { return held_at_most(unit); }

  // A step.

  /// Plans a step of n tokens, 1 .. max_step. Errors: a step is open; n out of range; the tokens do not fit, or make a stream
  /// longer than the policy's patterns reach; somebody would
  /// have to leave for the second token or a later one, and who depends on evidence that only commit brings.
  [[nodiscard]] result<void> try_begin(std::size_t n);
  [[nodiscard]] result<void> try_begin(std::size_t n, may_shorten_t) { return try_begin(n); }
  [[nodiscard]] bool open() const noexcept { return step_ != 0; }
  /// Tokens of the open step; 0: none is open.
  [[nodiscard]] std::size_t step_tokens() const noexcept { return step_; }
  /// The slots of the step's tokens, [n].
  [[nodiscard]] std::span<const slot> new_slots(std::size_t unit) const noexcept {
    return table_.unit(unit).order.subspan(table_.unit(unit).held, step_);
  }
  /// The slots of the tokens held and of the step's, oldest first: every slot that the step may read, [held_count + n].
  /// Valid until the step ends.
  [[nodiscard]] std::span<const slot> step_slots(std::size_t unit = 0) const noexcept {
    return table_.unit(unit).order.first(table_.unit(unit).held + step_);
  }
  /// What query 0 .. n - 1 of the open step reads where the pattern of reading is `variant`, below variants(). Valid until
  /// the next call of view().
  [[nodiscard]] query_view view(std::size_t unit, std::size_t query, std::size_t variant);
  /// The same in the first layer and kv head of the unit: in all of them where variants() is 1.
  [[nodiscard]] query_view view(std::size_t unit, std::size_t query) {
    const unit_place place = place_of(unit);
    return view(unit, query, variant_of(place.layer, place.kv_head));
  }
  /// How keys are to be stored. Where they are scattered, views have one span a block and angles mean nothing.
  [[nodiscard]] const key_storage& storage() const noexcept { return views_.storage(); }
  /// Whether the key of the token at stream position `at` is to be stored raw; with storage().both(), turned as well.
  [[nodiscard]] bool raw(position at) const noexcept { return views_.raw(at); }
  /// Builds views with one span a block: for attention that does not turn queries (ALiBi, no positions).
  void ignore_angles() noexcept { views_.ignore_angles(); }

  /// Makes the first `count` tokens of the step (default all) and what the policy drops final; the rest never happened.
  /// commit(0) is abort(). Errors (the step stays open and unchanged): no step is open; count above the step's tokens;
  /// surprisals missing, of the wrong number, NaN, below 0, or not asked for.
  [[nodiscard]] result<void> try_commit(std::size_t count, const commit_evidence& evidence = {});
  [[nodiscard]] result<void> try_commit(const commit_evidence& evidence = {}) { return try_commit(step_, evidence); }
  /// The error that try_commit would give, if any; changes nothing.
  [[nodiscard]] result<void> check_commit(std::size_t count, const commit_evidence& evidence) const;
  /// Ends the step as if it had never begun.
  void abort() noexcept;

  // Messages; errors while a step is open.

  /// An error, which names the call, if a step is open.
  [[nodiscard]] result<void> check_closed(std::string_view call) const;

  /// Makes room for n tokens that will come: the share written last pays first, sinks and pinned never do. Where the rules
  /// would keep all that is held and n more, nobody leaves. Errors: n cannot be paid (the error names the largest n that can).
  [[nodiscard]] result<void> try_reserve(std::size_t n);
  /// Forgets the tokens at positions first <= p < last that are held. Errors: last < first, or last beyond the stream.
  [[nodiscard]] result<void> try_erase(position first, position last);
  /// Tells the rules that a turn of the conversation ended.
  [[nodiscard]] result<void> try_end_turn();
  /// Forgets everything; the stream begins again at first_position.
  [[nodiscard]] result<void> try_clear();

  // Inspection.

  /// Stream position of the next token.
  [[nodiscard]] position next_position() const noexcept { return next_; }
  /// Positions held by a unit, oldest first. Allocates.
  [[nodiscard]] std::vector<position> held(std::size_t unit = 0) const;
  /// Positions that the next single token will still find, oldest first. Allocates.
  [[nodiscard]] std::vector<position> next_held(std::size_t unit = 0) const;
  [[nodiscard]] std::size_t held_count(std::size_t unit = 0) const noexcept { return table_.unit(unit).held; }
  /// Blocks that a unit uses now.
  [[nodiscard]] std::size_t block_count(std::size_t unit = 0) const noexcept { return table_.unit(unit).block_count; }
  /// The slots of the tokens held, oldest first. Valid until the next non-const call.
  [[nodiscard]] std::span<const slot> held_slots(std::size_t unit = 0) const noexcept {
    return table_.unit(unit).tokens();
  }
  /// What the last commit, reserve, erase or clear did to a unit.
  [[nodiscard]] const unit_plan& last(std::size_t unit = 0) const noexcept { return plans_[unit].plan; }
  [[nodiscard]] const retention& kept() const noexcept { return kept_; }
  /// The largest distance the policy can produce while nothing is erased, if it has one.
  [[nodiscard]] std::optional<position> largest_distance() const {
    std::optional<position> most = detail::largest_of(rules_.distance, kept_);
    if constexpr (requires { rules_.select.farthest(); }) {
      if (most) *most = (std::max)(*most, static_cast<position>(rules_.select.farthest()));
    }
    return most;
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.used(); }

#if KVKEEP_EXCEPTIONS
  void begin(std::size_t n) { detail::unwrap(try_begin(n)); }
  void begin(std::size_t n, may_shorten_t tag) { detail::unwrap(try_begin(n, tag)); }
  void commit(const commit_evidence& evidence = {}) { detail::unwrap(try_commit(evidence)); }
  void commit(std::size_t count, const commit_evidence& evidence = {}) { detail::unwrap(try_commit(count, evidence)); }
  void reserve(std::size_t n) { detail::unwrap(try_reserve(n)); }
  void erase(position first, position last) { detail::unwrap(try_erase(first, last)); }
  void end_turn() { detail::unwrap(try_end_turn()); }
  void clear() { detail::unwrap(try_clear()); }
#endif

 private:
  static constexpr std::uint32_t never = ~std::uint32_t{0};  // death of a token that survives the step

  struct death {
    slot where;
    std::uint32_t query;  // the first of the open step that no longer reads the token
  };
  struct plan_memory {
    std::span<death> deaths;        // [tokens of a step], by query: what the open step does away with
    std::size_t dying;              // how many deaths there are
    std::span<token_drop> dropped;  // [tokens of a step]
    std::size_t leaving;            // how many are to be dropped
    std::span<token_move> moves;    // [tokens of a step]
    std::span<index_shift> shifts;  // [tokens of a step]
    std::span<block_id> freed;      // [blocks of the unit]
    unit_plan plan;
  };

  void lay_out(detail::arena& memory);
  [[nodiscard]] static result<void> check(const model_shape& shape, const Policy& policy,
                                          const planner_options& options);

  /// Undoes a step whose planning was left by an exception.
  struct rollback {
    planner* of;
    explicit rollback(planner* p) noexcept : of(p) {}
    rollback(const rollback&) = delete;
    rollback(rollback&&) = delete;
    rollback& operator=(const rollback&) = delete;
    rollback& operator=(rollback&&) = delete;
    ~rollback() {
      if (of != nullptr) of->abort();
    }
  };

  /// Token t of the step to come, as states see it.
  [[nodiscard]] held_token coming(std::size_t t) const noexcept {
    const position at = next_ + static_cast<position>(t);
    return {at, at - options_.first_position, 0, 0};
  }
  [[nodiscard]] unit_place place_of(std::size_t unit) const noexcept {
    if (used_scope_ == kvkeep::scope::sequence) return {};
    if (used_scope_ == kvkeep::scope::layer) return {unit, 0};
    return {unit / shape_.kv_heads, unit % shape_.kv_heads};
  }
  [[nodiscard]] typename keep_type::shares shares(std::size_t unit) const { return keep_.full_shares(place_of(unit)); }
  [[nodiscard]] std::size_t held_at_most(std::size_t unit) const;
  /// Tokens of a step that a query may see beyond those that a decision kept.
  [[nodiscard]] std::size_t since_decision() const noexcept {
    if (keep_type::any_refuses) return 0;  // there are no decisions
    if (schedule_.when != schedule::act::each_token) return options_.max_step;
    return (std::min)(schedule_.together, options_.max_step) - 1;
  }
  [[nodiscard]] std::size_t in_step(std::size_t unit) const { return held_at_most(unit) + options_.max_step; }

  /// Marks in keep_ what a unit keeps of its first `tokens` tokens under `all`; returns how many go.
  std::size_t mark(std::size_t unit, const typename keep_type::shares& all, std::size_t tokens, std::size_t fresh);
  /// Whether n tokens that come find room beside those held, without anybody leaving.
  [[nodiscard]] bool fits(std::size_t unit, std::size_t n) const;
  /// Marks what is kept of the tokens held to make room for n.
  std::size_t mark_for_coming(std::size_t unit, std::size_t n);
  [[nodiscard]] result<void> check_room(std::size_t n) const;
  /// An error where n more tokens make the stream longer than the rules can do with.
  [[nodiscard]] result<void> check_longest(std::size_t n) const;
  /// An error where somebody leaves for the second token of a step or a later one.
  [[nodiscard]] result<void> check_told(std::size_t n) const;
  void plan_deaths(std::size_t unit, std::size_t n);
  void add_death(std::size_t unit, slot s, std::size_t query) noexcept;
  void forget_deaths(std::size_t unit) noexcept;
  void add_leaving(std::size_t unit, slot s) noexcept;
  /// Lists as leaving what is not marked as kept of a unit's first `tokens` tokens.
  void list_leaving(std::size_t unit, std::size_t tokens) noexcept;
  [[nodiscard]] result<void> check_evidence(std::size_t count, const commit_evidence& evidence) const;

  /// Lists what leaves and sets the states for a commit of the first `count` tokens; runs the user's rules and changes
  /// nothing else.
  void decide(std::size_t unit, std::size_t count, const commit_evidence& evidence);
  [[nodiscard]] result<void> commit_quietly(std::size_t count, const commit_evidence& evidence);
  /// Drops what is listed as leaving of the first `tokens` tokens, releases those from there to `written`, and fills the
  /// unit's plan.
  void apply(std::size_t unit, std::size_t tokens, std::size_t written);
  void tell(drop_reason reason) const;

  model_shape shape_;
  Policy policy_;
  rules_type rules_;
  schedule schedule_;
  planner_options options_;
  std::size_t units_ = 1;
  kvkeep::scope used_scope_ = kvkeep::scope::sequence;
  std::size_t longest_ = 0;  // tokens that a stream may have
  retention kept_{};
  position next_ = 0;
  std::size_t step_ = 0;

  detail::arena memory_;
  mutable keep_type keep_;
  detail::token_table table_;
  detail::view_builder<select_type, distance_type> views_;
  std::span<plan_memory> plans_;    // [units]
  std::span<std::uint32_t> death_;  // [slots]: the query of the token's death in the open step, or never
  std::span<slot> alive_;           // [tokens]: what a query reads while a step is planned, oldest first
};

/// A planner, or the error that try_make tells.
template <policy_like Policy>
[[nodiscard]] result<planner<Policy>> try_make_planner(const model_shape& shape, const Policy& policy,
                                                       const planner_options& options = {}) {
  return planner<Policy>::try_make(shape, policy, options);
}

#if KVKEEP_EXCEPTIONS
template <policy_like Policy>
[[nodiscard]] planner<Policy> make_planner(const model_shape& shape, const Policy& policy,
                                           const planner_options& options = {}) {
  return detail::unwrap(try_make_planner(shape, policy, options));
}
#endif

KVKEEP_NAMESPACE_END

#include "kvkeep/cache/planner_impl.hpp"
#include "kvkeep/cache/planner_make_impl.hpp"
#include "kvkeep/cache/planner_messages_impl.hpp"

#endif
