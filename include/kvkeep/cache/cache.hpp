// cache: the keys and values of one sequence under a policy: planner + storage + kernel.
//
//   auto cache = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 4, .window = 508},
//                                   {.positions = kvkeep::rope{.theta = 10000.0}});
//   auto step = cache.begin(n);                                          // nothing is lost yet
//   for (std::size_t l = 0; l < shape.layers; ++l) step.attend(l, q, k, v, out);   // [tokens, heads, head_dim]
//   step.commit();                                                       // no commit: nothing happened
//
// All memory is taken at construction, and try_cache_bytes tells how much. One thread at a time per cache.
#ifndef KVKEEP_CACHE_CACHE_HPP
#define KVKEEP_CACHE_CACHE_HPP

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "kvkeep/cache/cache_core.hpp"
#include "kvkeep/cache/step.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What a cache knows of its memory units. Valid as long as the cache. Units and heads must exist, and layers must retrieve
/// but for retrieved(), which is empty in others.
template <class Core>
class unit_inspection {
 public:
  explicit unit_inspection(const Core& core) noexcept : core_(&core) {}

  /// Units that can be looked up.
  [[nodiscard]] std::size_t count() const noexcept { return core_->memory.complete(); }
  /// Stream position of the first token of a unit.
  [[nodiscard]] position first_of(std::size_t unit) const noexcept {
    return core_->plan.first_position() + static_cast<position>(core_->memory.rules().geometry.first_of(unit));
  }
  /// Who chooses units in a layer: 1, kv_heads or query_heads.
  [[nodiscard]] std::size_t choosers() const noexcept { return core_->memory.choosers(); }
  /// The units that the newest query read, best first; in the order of the stream where all there are were read.
  [[nodiscard]] std::span<const std::uint32_t> retrieved(std::size_t layer, std::size_t chooser = 0) const noexcept {
    return core_->memory.chosen(layer, chooser);
  }
  /// The tokens that represent a unit for a query head, as places in the unit, the best first.
  [[nodiscard]] std::span<const std::uint32_t> representatives(std::size_t layer, std::size_t unit,
                                                               std::size_t query_head) const noexcept {
    return core_->memory.offsets(layer, unit, query_head);
  }
  /// The mean of their raw keys, [head_dim].
  [[nodiscard]] std::span<const float> representative(std::size_t layer, std::size_t unit,
                                                      std::size_t query_head) const noexcept {
    return core_->memory.vector(layer, unit, query_head);
  }
  /// What happened between RAM and file; all 0 without tiers.
  [[nodiscard]] tier_counters tiers() const noexcept { return core_->memory.tiers.counters(); }
  /// The units of a layer that are in RAM, in no order; without tiers none are listed. Allocates.
  [[nodiscard]] std::vector<std::uint32_t> hot_units(std::size_t layer) const { return core_->memory.hot_in(layer); }
  /// What the token at a position got of a query head's attention while it was in the window (or the sum of its scores,
  /// where those decide). Errors: a position that is not held.
  [[nodiscard]] result<float> try_window_sum(std::size_t layer, std::size_t query_head, position at) const {
    for (const slot s : core_->plan.held_slots()) {
      if (core_->plan.position_of(s) == at) return core_->memory.window_sum(layer, query_head, s);
    }
    return detail::bad_argument("at", at, "a position that is held");
  }

 private:
  const Core* core_;
};

/// What a cache knows of the keys behind its window.
template <class Core>
class key_inspection {
 public:
  explicit key_inspection(const Core& core) noexcept : core_(&core) {}

  /// Who chooses keys in a layer: query_heads or kv_heads.
  [[nodiscard]] std::size_t choosers() const noexcept { return core_->memory.choosers(); }
  /// The stream numbers of the keys that a chooser's heads read of them for the query that was attended last, best first. Valid
  /// until the next attend. The layer and chooser must exist.
  [[nodiscard]] std::span<const std::uint32_t> retrieved(std::size_t layer, std::size_t chooser) const noexcept {
    return core_->memory.chosen(layer, chooser);
  }

 private:
  const Core* core_;
};

template <class Policy, codec KeyCodec = f32, codec ValueCodec = f32>
class cache {
  static_assert(detail::explain_policy<Policy>::value);
  using core_type = detail::cache_core<Policy, KeyCodec, ValueCodec>;

 public:
  using step = basic_step<core_type>;

  /// A cache for `shape`. Errors: shape, policy or options out of range; an option that cannot act; not enough memory; errc::io
  /// where the file for memory units cannot be made.
  [[nodiscard]] static result<cache> try_make(const model_shape& shape, const Policy& policy,
                                              const cache_options& options) {
    auto core = core_type::try_make(shape, policy, options);
    if (!core) return core.error();
    return cache(std::move(*core));
  }
  /// The bytes that try_make would allocate, max_step included, without allocating them.
  [[nodiscard]] static result<cache_bytes> try_bytes(const model_shape& shape, const Policy& policy,
                                                     const cache_options& options) {
    return core_type::try_bytes(shape, policy, options);
  }

  /// Opens a step of n tokens, 1 .. max_step. Errors: a step is open; n out of range; the tokens do not fit; errc::io where memory
  /// units cannot be written to their file: no step is open, nothing is lost, and the same can be tried again.
  [[nodiscard]] result<step> try_begin(std::size_t n) {
    if (auto ok = core_->begin(n); !ok) return ok.error();
    return step(core_.get());
  }
  /// The same, for a step that may be committed in part. Every policy that positions alone decide allows that anyway; where
  /// attention decides, n is at most cache_options::max_shortened, and a shortened commit attends its tokens once more.
  [[nodiscard]] result<step> try_begin(std::size_t n, may_shorten_t) {
    if (auto ok = core_->begin(n, true); !ok) return ok.error();
    return step(core_.get());
  }

  /// Makes room for n tokens that will come. See planner::try_reserve.
  [[nodiscard]] result<void> try_reserve(std::size_t n) { return core_->reserve(n); }
  /// Forgets the tokens at stream positions first <= p < last. See planner::try_erase.
  [[nodiscard]] result<void> try_erase(position first, position last) { return core_->erase(first, last); }
  /// Ends a turn of the conversation, for policies with decay.
  [[nodiscard]] result<void> try_end_turn() { return core_->plan.try_end_turn(); }
  /// Forgets everything; the stream begins again at first_position. Errors: a step is open; errc::io where the file of memory units
  /// cannot be emptied: nothing is forgotten.
  [[nodiscard]] result<void> try_clear() { return core_->clear(); }

  [[nodiscard]] const model_shape& shape() const noexcept { return core_->shape; }
  [[nodiscard]] const Policy& policy() const noexcept { return core_->policy; }
  [[nodiscard]] std::size_t units() const noexcept { return core_->plan.units(); }
  [[nodiscard]] std::size_t unit_of(std::size_t layer, std::size_t kv_head) const noexcept {
    return core_->plan.unit_of(layer, kv_head);
  }
  /// Stream position of the next token.
  [[nodiscard]] position next_position() const noexcept { return core_->plan.next_position(); }
  // Units, layers and kv heads given to these must exist.

  /// Positions held by a unit, oldest first: what the last query could read. Allocates.
  [[nodiscard]] std::vector<position> held(std::size_t unit = 0) const { return core_->plan.held(unit); }
  /// Positions that the next single token will still find. Allocates.
  [[nodiscard]] std::vector<position> next_held(std::size_t unit = 0) const { return core_->plan.next_held(unit); }
  [[nodiscard]] std::size_t held_count(std::size_t unit = 0) const noexcept { return core_->plan.held_count(unit); }
  [[nodiscard]] std::size_t capacity(std::size_t unit = 0) const { return core_->plan.capacity(unit); }
  /// Blocks of 16 tokens in use by a unit.
  [[nodiscard]] std::size_t block_count(std::size_t unit = 0) const noexcept { return core_->plan.block_count(unit); }
  /// What the cache knows of what it retrieves, where the policy does.
  [[nodiscard]] auto memory() const noexcept requires(core_type::retrieves) {
    using memory_type = typename core_type::memory_type;
    if constexpr (std::is_same_v<memory_type, detail::block_memory>) {
      return unit_inspection<core_type>(*core_);
    } else {
      return key_inspection<core_type>(*core_);
    }
  }
  /// What attention_evidence for this cache is made with.
  [[nodiscard]] kvkeep::evidence_shape evidence_shape() const noexcept { return core_->evidence_shape(); }
  /// Bytes in use, all of them taken at construction.
  [[nodiscard]] const cache_bytes& bytes() const noexcept { return core_->used; }

  /// The stored key and value of a token, as stored (keys rotated or raw; rotated where both are), rows [head_dim]. Errors: layer, kv_head, a
  /// position that is not held, a row of another length.
  [[nodiscard]] result<void> try_read(std::size_t layer, std::size_t kv_head, position at, std::span<float> key,
                                      std::span<float> value) const {
    return core_->read(layer, kv_head, at, key, value);
  }
  /// The same in ggml's bytes, bit for bit as stored: KeyCodec::row_bytes(head_dim) and ValueCodec::row_bytes(head_dim) of
  /// them. Floats are plain arrays, int8 is ggml's q8_0 and int4 its q4_0. Errors as of try_read.
  [[nodiscard]] result<void> try_export_row(std::size_t layer, std::size_t kv_head, position at,
                                            std::span<std::byte> key_bytes, std::span<std::byte> value_bytes) const {
    return core_->export_row(layer, kv_head, at, key_bytes, value_bytes);
  }
  /// The stored keys and values of a layer and kv head, a key_source; slots as in planner::held_slots.
  [[nodiscard]] lane_view<KeyCodec, ValueCodec> keys(std::size_t layer, std::size_t kv_head) const noexcept {
    return core_->store.view(core_->lane_of(layer, kv_head));
  }
  /// Slots of the tokens a unit holds, oldest first.
  [[nodiscard]] std::span<const slot> held_slots(std::size_t unit = 0) const noexcept {
    return core_->plan.held_slots(unit);
  }
  /// The same and those of the open step's tokens: every slot that the step may read, and that attention_evidence speaks of.
  /// Valid until the step ends: commit moves rows, so evidence is read before.
  [[nodiscard]] std::span<const slot> step_slots(std::size_t unit = 0) const noexcept {
    return core_->plan.step_slots(unit);
  }
  /// Stream position of the token in a slot, one of those two lists.
  [[nodiscard]] position position_of(slot s) const noexcept { return core_->plan.position_of(s); }

#if KVKEEP_EXCEPTIONS
  [[nodiscard]] step begin(std::size_t n) { return detail::unwrap(try_begin(n)); }
  [[nodiscard]] step begin(std::size_t n, may_shorten_t tag) { return detail::unwrap(try_begin(n, tag)); }
  void reserve(std::size_t n) { detail::unwrap(try_reserve(n)); }
  void erase(position first, position last) { detail::unwrap(try_erase(first, last)); }
  void end_turn() { detail::unwrap(try_end_turn()); }
  void clear() { detail::unwrap(try_clear()); }
  void read(std::size_t layer, std::size_t kv_head, position at, std::span<float> key, std::span<float> value) const {
    detail::unwrap(try_read(layer, kv_head, at, key, value));
  }
  void export_row(std::size_t layer, std::size_t kv_head, position at, std::span<std::byte> key_bytes,
                  std::span<std::byte> value_bytes) const {
    detail::unwrap(try_export_row(layer, kv_head, at, key_bytes, value_bytes));
  }
#endif

 private:
  explicit cache(std::unique_ptr<core_type> core) : core_(std::move(core)) {}

  std::unique_ptr<core_type> core_;  // on the heap, so that steps stay valid when the cache moves
};

/// The bytes a cache would allocate, without building it, by what they are for, and those of its file.
template <codec KeyCodec = f32, codec ValueCodec = f32, policy_like Policy>
[[nodiscard]] result<cache_bytes> try_cache_bytes(const model_shape& shape, const Policy& policy,
                                                  const cache_options& options = {}) {
  return cache<Policy, KeyCodec, ValueCodec>::try_bytes(shape, policy, options);
}
/// A cache, or the error that says which argument is at fault.
template <codec KeyCodec = f32, codec ValueCodec = f32, class Policy>
[[nodiscard]] result<cache<Policy, KeyCodec, ValueCodec>> try_make_cache(const model_shape& shape, const Policy& policy,
                                                                         const cache_options& options = {}) {
  return cache<Policy, KeyCodec, ValueCodec>::try_make(shape, policy, options);
}
#if KVKEEP_EXCEPTIONS
template <codec KeyCodec = f32, codec ValueCodec = f32, policy_like Policy>
[[nodiscard]] cache_bytes cache_bytes_of(const model_shape& shape, const Policy& policy,
                                         const cache_options& options = {}) {
  return detail::unwrap(try_cache_bytes<KeyCodec, ValueCodec>(shape, policy, options));
}
template <codec KeyCodec = f32, codec ValueCodec = f32, class Policy>
[[nodiscard]] cache<Policy, KeyCodec, ValueCodec> make_cache(const model_shape& shape, const Policy& policy,
                                                             const cache_options& options = {}) {
  return detail::unwrap(try_make_cache<KeyCodec, ValueCodec>(shape, policy, options));
}
#endif

KVKEEP_NAMESPACE_END

#endif
