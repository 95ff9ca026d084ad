// any_cache: a cache whose policy is chosen at run time. One virtual call an operation; else as `cache`.
#ifndef KVKEEP_CACHE_ANY_CACHE_HPP
#define KVKEEP_CACHE_ANY_CACHE_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "kvkeep/cache/cache.hpp"
#include "kvkeep/policy/spec.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Tokens that a query retrieved together: a unit, or a single key.
struct retrieved_tokens {
  position first = 0;       ///< stream position
  position last = 0;        ///< one past the end
  std::size_t chooser = 0;  ///< who chose them, from 0: the one of the layer, a kv head or a query head
};

namespace detail {

/// What any_cache asks of the cache it holds.
class cache_interface {
 public:
  cache_interface() = default;
  cache_interface(const cache_interface&) = delete;
  cache_interface(cache_interface&&) = delete;
  cache_interface& operator=(const cache_interface&) = delete;
  cache_interface& operator=(cache_interface&&) = delete;
  virtual ~cache_interface() = default;
  [[nodiscard]] virtual result<void> begin(std::size_t n, bool shortens) = 0;
  [[nodiscard]] virtual result<void> attend(std::size_t layer, rows_view<const float> q, rows_view<const float> k,
                                            rows_view<const float> v, rows_view<float> out,
                                            const executor_ref& executor) = 0;
  [[nodiscard]] virtual result<void> commit(std::size_t count, const commit_evidence& evidence) = 0;
  virtual void tell(drop_reason reason) const = 0;
  virtual void abort() noexcept = 0;
  [[nodiscard]] virtual std::size_t step_tokens() const noexcept = 0;
  [[nodiscard]] virtual result<void> reserve(std::size_t n) = 0;
  [[nodiscard]] virtual result<void> erase(position first, position last) = 0;
  [[nodiscard]] virtual result<void> end_turn() = 0;
  [[nodiscard]] virtual result<void> clear() = 0;
  [[nodiscard]] virtual std::vector<position> held(std::size_t unit) const = 0;
  [[nodiscard]] virtual std::vector<position> next_held(std::size_t unit) const = 0;
  [[nodiscard]] virtual std::size_t units() const noexcept = 0;
  [[nodiscard]] virtual std::size_t held_count(std::size_t unit) const noexcept = 0;
  [[nodiscard]] virtual const model_shape& shape() const noexcept = 0;
  [[nodiscard]] virtual std::size_t unit_of(std::size_t layer, std::size_t kv_head) const noexcept = 0;
  [[nodiscard]] virtual std::size_t capacity(std::size_t unit) const = 0;
  [[nodiscard]] virtual std::size_t block_count(std::size_t unit) const noexcept = 0;
  [[nodiscard]] virtual result<void> read(std::size_t layer, std::size_t kv_head, position at, std::span<float> key,
                                          std::span<float> value) const = 0;
  [[nodiscard]] virtual position next_position() const noexcept = 0;
  [[nodiscard]] virtual const cache_bytes& bytes() const noexcept = 0;
  [[nodiscard]] virtual tier_counters tiers() const noexcept = 0;
  [[nodiscard]] virtual bool wants_surprisals() const noexcept = 0;
  [[nodiscard]] virtual std::vector<retrieved_tokens> retrieved(std::size_t layer) const = 0;
};

/// What the newest query of a layer retrieved. See any_cache::retrieved.
template <class Core>
[[nodiscard]] std::vector<retrieved_tokens> retrieved_by(const Core& core, std::size_t layer) {
  std::vector<retrieved_tokens> out;
  if constexpr (Core::retrieves) {
    for (std::size_t chooser = 0; chooser < core.memory.choosers(); ++chooser) {
      for (const std::uint32_t chosen : core.memory.chosen(layer, chooser)) {
        std::size_t first = chosen;
        std::size_t count = 1;
        if constexpr (std::is_same_v<typename Core::memory_type, block_memory>) {
          first = core.memory.rules().geometry.first_of(chosen);
          count = core.memory.rules().geometry.unit;
        }
        const position at = core.plan.first_position() + static_cast<position>(first);
        out.push_back({at, at + static_cast<position>(count), chooser});
      }
    }
  }
  return out;
}

template <class Policy, codec KeyCodec, codec ValueCodec>
class cache_model final : public cache_interface {
 public:
  using core_type = cache_core<Policy, KeyCodec, ValueCodec>;
  explicit cache_model(std::unique_ptr<core_type> core) : core_(std::move(core)), bytes_(with_model(core_->used)) {}

  /// The bytes of a cache and of this object around it.
  [[nodiscard]] static cache_bytes with_model(cache_bytes bytes) noexcept {
    bytes.tables += sizeof(cache_model);
    bytes.total += sizeof(cache_model);
    return bytes;
  }

  result<void> begin(std::size_t n, bool shortens) override { return core_->begin(n, shortens); }
  result<void> attend(std::size_t layer, rows_view<const float> q, rows_view<const float> k, rows_view<const float> v,
                      rows_view<float> out, const executor_ref& executor) override {
    return core_->attend(layer, q, k, v, out, executor);
  }
  result<void> commit(std::size_t count, const commit_evidence& e) override { return core_->commit(count, e); }
  void tell(drop_reason reason) const override { core_->tell(reason); }
  void abort() noexcept override { core_->abort(); }
  std::size_t step_tokens() const noexcept override { return core_->step_tokens(); }
  result<void> reserve(std::size_t n) override { return core_->reserve(n); }
  result<void> erase(position first, position last) override { return core_->erase(first, last); }
  result<void> end_turn() override { return core_->plan.try_end_turn(); }
  result<void> clear() override { return core_->clear(); }
  std::vector<position> held(std::size_t unit) const override { return core_->plan.held(unit); }
  std::vector<position> next_held(std::size_t unit) const override { return core_->plan.next_held(unit); }
  std::size_t units() const noexcept override { return core_->plan.units(); }
  std::size_t held_count(std::size_t unit) const noexcept override { return core_->plan.held_count(unit); }
  const model_shape& shape() const noexcept override { return core_->shape; }
  std::size_t unit_of(std::size_t layer, std::size_t kv_head) const noexcept override {
    return core_->plan.unit_of(layer, kv_head);
  }
  std::size_t capacity(std::size_t unit) const override { return core_->plan.capacity(unit); }
  std::size_t block_count(std::size_t unit) const noexcept override { return core_->plan.block_count(unit); }
  result<void> read(std::size_t layer, std::size_t kv_head, position at, std::span<float> key,
                    std::span<float> value) const override {
    return core_->read(layer, kv_head, at, key, value);
  }
  position next_position() const noexcept override { return core_->plan.next_position(); }
  const cache_bytes& bytes() const noexcept override { return bytes_; }
  tier_counters tiers() const noexcept override {
    if constexpr (core_type::has_tiers) return core_->memory.tiers.counters();
    return {};
  }
  bool wants_surprisals() const noexcept override { return core_type::planner_type::wants_surprisals; }
  std::vector<retrieved_tokens> retrieved(std::size_t layer) const override { return retrieved_by(*core_, layer); }

 private:
  std::unique_ptr<core_type> core_;
  cache_bytes bytes_;
};

}  // namespace detail

/// An open step of an any_cache.
using any_step = basic_step<detail::cache_interface>;

/// A cache under any preset. The functions are those of `cache`.
class any_cache {
 public:
  explicit any_cache(std::unique_ptr<detail::cache_interface> cache) : cache_(std::move(cache)) {}

  [[nodiscard]] result<any_step> try_begin(std::size_t n) {
    if (auto ok = cache_->begin(n, false); !ok) return ok.error();
    return any_step(cache_.get());
  }
  [[nodiscard]] result<any_step> try_begin(std::size_t n, may_shorten_t) {
    if (auto ok = cache_->begin(n, true); !ok) return ok.error();
    return any_step(cache_.get());
  }
  [[nodiscard]] result<void> try_reserve(std::size_t n) { return cache_->reserve(n); }
  [[nodiscard]] result<void> try_erase(position first, position last) { return cache_->erase(first, last); }
  [[nodiscard]] result<void> try_end_turn() { return cache_->end_turn(); }
  [[nodiscard]] result<void> try_clear() { return cache_->clear(); }

  [[nodiscard]] std::vector<position> held(std::size_t unit = 0) const { return cache_->held(unit); }
  [[nodiscard]] std::vector<position> next_held(std::size_t unit = 0) const { return cache_->next_held(unit); }
  [[nodiscard]] std::size_t units() const noexcept { return cache_->units(); }
  [[nodiscard]] std::size_t held_count(std::size_t unit = 0) const noexcept { return cache_->held_count(unit); }
  [[nodiscard]] const model_shape& shape() const noexcept { return cache_->shape(); }
  [[nodiscard]] std::size_t unit_of(std::size_t layer, std::size_t kv_head) const noexcept {
    return cache_->unit_of(layer, kv_head);
  }
  [[nodiscard]] std::size_t capacity(std::size_t unit = 0) const { return cache_->capacity(unit); }
  [[nodiscard]] std::size_t block_count(std::size_t unit = 0) const noexcept { return cache_->block_count(unit); }
  [[nodiscard]] result<void> try_read(std::size_t layer, std::size_t kv_head, position at, std::span<float> key,
                                      std::span<float> value) const {
    return cache_->read(layer, kv_head, at, key, value);
  }
  [[nodiscard]] position next_position() const noexcept { return cache_->next_position(); }
  [[nodiscard]] const cache_bytes& bytes() const noexcept { return cache_->bytes(); }
  /// What happened between RAM and the file of memory units; all 0 without one.
  [[nodiscard]] tier_counters tiers() const noexcept { return cache_->tiers(); }
  /// Whether commit must be told surprisals; where not, it must not be.
  [[nodiscard]] bool wants_surprisals() const noexcept { return cache_->wants_surprisals(); }
  /// What the newest query retrieved in a layer: chooser by chooser, the best first. Nothing where the policy retrieves
  /// nothing, or has nothing to retrieve yet. The layer must exist. Allocates.
  [[nodiscard]] std::vector<retrieved_tokens> retrieved(std::size_t layer) const { return cache_->retrieved(layer); }

#if KVKEEP_EXCEPTIONS
  [[nodiscard]] any_step begin(std::size_t n) { return detail::unwrap(try_begin(n)); }
  [[nodiscard]] any_step begin(std::size_t n, may_shorten_t tag) { return detail::unwrap(try_begin(n, tag)); }
  void reserve(std::size_t n) { detail::unwrap(try_reserve(n)); }
  void erase(position first, position last) { detail::unwrap(try_erase(first, last)); }
  void end_turn() { detail::unwrap(try_end_turn()); }
  void clear() { detail::unwrap(try_clear()); }
  void read(std::size_t layer, std::size_t kv_head, position at, std::span<float> key, std::span<float> value) const {
    detail::unwrap(try_read(layer, kv_head, at, key, value));
  }
#endif

 private:
  std::unique_ptr<detail::cache_interface> cache_;
};

/// A cache under a policy that is known at run time. Errors as try_make_cache of that policy.
template <codec KeyCodec = f32, codec ValueCodec = f32>
[[nodiscard]] result<any_cache> try_make_cache(const model_shape& shape, const any_policy& policy,
                                               const cache_options& options = {}) {
  return policy.visit([&](const auto& preset) -> result<any_cache> {
    using preset_type = std::remove_cvref_t<decltype(preset)>;
    auto core = detail::cache_core<preset_type, KeyCodec, ValueCodec>::try_make(shape, preset, options);
    if (!core) return core.error();
    using model = detail::cache_model<preset_type, KeyCodec, ValueCodec>;
    std::unique_ptr<detail::cache_interface> made(new (std::nothrow) model(std::move(*core)));
    if (!made) return detail::make_error(errc::capacity, "policy", "no memory for a cache");
    return any_cache(std::move(made));
  });
}
/// The bytes of such a cache, without building it.
template <codec KeyCodec = f32, codec ValueCodec = f32>
[[nodiscard]] result<cache_bytes> try_cache_bytes(const model_shape& shape, const any_policy& policy,
                                                  const cache_options& options = {}) {
  return policy.visit([&](const auto& preset) -> result<cache_bytes> {
    using preset_type = std::remove_cvref_t<decltype(preset)>;
    auto bytes = detail::cache_core<preset_type, KeyCodec, ValueCodec>::try_bytes(shape, preset, options);
    if (!bytes) return bytes;
    return detail::cache_model<preset_type, KeyCodec, ValueCodec>::with_model(*bytes);
  });
}
#if KVKEEP_EXCEPTIONS
template <codec KeyCodec = f32, codec ValueCodec = f32>
[[nodiscard]] cache_bytes cache_bytes_of(const model_shape& shape, const any_policy& policy,
                                         const cache_options& options = {}) {
  return detail::unwrap(try_cache_bytes<KeyCodec, ValueCodec>(shape, policy, options));
}
template <codec KeyCodec = f32, codec ValueCodec = f32>
[[nodiscard]] any_cache make_cache(const model_shape& shape, const any_policy& policy,
                                   const cache_options& options = {}) {
  return detail::unwrap(try_make_cache<KeyCodec, ValueCodec>(shape, policy, options));
}
#endif

KVKEEP_NAMESPACE_END

#endif
