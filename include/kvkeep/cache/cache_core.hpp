// cache_core: what a cache consists of, and the data flow of a step.
#ifndef KVKEEP_CACHE_CACHE_CORE_HPP
#define KVKEEP_CACHE_CACHE_CORE_HPP

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <string_view>

#include "kvkeep/cache/cache_bytes.hpp"
#include "kvkeep/cache/cache_options.hpp"
#include "kvkeep/cache/layer_attention.hpp"
#include "kvkeep/cache/planner.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/core/tensor.hpp"
#include "kvkeep/memory/block_memory.hpp"
#include "kvkeep/memory/key_memory.hpp"
#include "kvkeep/storage/kv_store.hpp"

KVKEEP_NAMESPACE_BEGIN

namespace detail {

template <class Policy, codec KeyCodec, codec ValueCodec>
class cache_core {
 public:
  using planner_type = planner<Policy>;
  /// Whether the policy files tokens in units and retrieves them.
  static constexpr bool retrieves = unit_select<typename planner_type::select_type>;
  /// Whether what queries read differs by layer and kv head.
  static constexpr bool varies = variant_select<typename planner_type::select_type>;
  using memory_type = typename memory_of<typename planner_type::select_type>::type;
  /// Whether the units of the policy may lie in a file.
  static constexpr bool has_tiers = std::is_same_v<memory_type, block_memory>;
  /// Whether dropped keys are found by an index of their own.
  static constexpr bool indexed = requires { requires memory_type::indexed; };

  [[nodiscard]] static result<std::unique_ptr<cache_core>> try_make(const model_shape& shape, const Policy& policy,
                                                                    const cache_options& options) {
    const auto bytes = try_bytes(shape, policy, options);
    if (!bytes) return bytes.error();
    auto plan = planner_type::try_make(shape, policy, plan_options(options));
    if (!plan) return plan.error();
    std::unique_ptr<cache_core> core(new (std::nothrow) cache_core(shape, policy, options, std::move(*plan)));
    if (core) core->memory_ = arena(bytes->total - sizeof(cache_core) - core->plan.bytes() - core->index_bytes());
    if (!core || core->memory_.measuring()) {
      return make_error(errc::capacity, "policy", fmt::format("no memory for {} bytes", bytes->total));
    }
    core->lay_out(core->memory_);
    core->used = *bytes;
    core->fill(options);
    if constexpr (has_tiers) {
      if (auto ok = core->open_tiers(); !ok) return ok.error();
    }
    if constexpr (indexed) {
      if (auto ok = core->memory.make_indexes(); !ok) return ok.error();
    }
    return core;
  }

  [[nodiscard]] static result<cache_bytes> try_bytes(const model_shape& shape, const Policy& policy,
                                                     const cache_options& options) {
    const auto tables = planner_type::try_bytes(shape, policy, plan_options(options));
    if (!tables) return tables.error();
    if (auto ok = check(shape, policy.rules(), options); !ok) return ok.error();
    // A planner without memory: its counts are what is needed here.
    cache_core measured(shape, policy, options, planner_type(shape, policy, plan_options(options), measure));
    if (auto ok = measured.check_encoding(options); !ok) return ok.error();
    const long double rows = static_cast<long double>(measured.plan.planned_blocks()) * block_tokens *
                             static_cast<long double>(measured.lanes_) * static_cast<long double>(shape.head_dim);
    if (rows > 1.0e16L) {
      return make_error(errc::capacity, "policy",
                        fmt::format("no machine has memory for {:.3g} keys and values", static_cast<double>(rows)));
    }
    arena ruler;
    measured.lay_out(ruler);
    cache_bytes out;
    out.keys = measured.store.key_bytes();
    out.values = measured.store.value_bytes();
    out.tables = *tables + sizeof(cache_core);
    if constexpr (retrieves) {
      arena units;
      measured.memory.lay_out(units, measured.evidence_shape());
      out.memory = units.used();
      if constexpr (has_tiers) {
        if (measured.memory.tiered()) {
          out.staging = measured.memory.tiers.staging_bytes();
          out.memory -= out.staging;
          out.file = measured.memory.tiers.file_bytes();
        }
      }
    }
    out.scratch = ruler.used() - out.keys - out.values - out.memory - out.staging;
    out.memory += measured.index_bytes();
    out.total = out.keys + out.values + out.tables + out.memory + out.staging + out.scratch;
    return out;
  }
  cache_core(const cache_core&) = delete;
  cache_core(cache_core&&) = delete;
  cache_core& operator=(const cache_core&) = delete;
  cache_core& operator=(cache_core&&) = delete;
  ~cache_core() {
    if constexpr (has_tiers) memory.tiers.finish();  // before the memory goes that it works in
  }

  /// shortens: fewer tokens than n may be committed.
  [[nodiscard]] result<void> begin(std::size_t n, bool shortens = false) {
    if constexpr (retrieves) {
      if (auto ok = check_memory(n); !ok) return ok;
      if constexpr (memory_type::decided_by_attention) {
        if (auto ok = check_shortened(n, shortens); !ok) return ok;
      }
      if constexpr (indexed) {
        if (auto ok = memory.check_indexes(); !ok) return ok;
      }
    }
    if (auto ok = plan.try_begin(n); !ok) return ok;
    if constexpr (has_tiers) {
      if (auto ok = memory.make_room(number_of(plan.next_position()), n); !ok) {
        plan.abort();
        return ok;
      }
    }
    shortens_ = shortens;
    half_shortened_ = false;
    std::fill(attended_.begin(), attended_.end(), std::uint8_t{0});
    attention_.begin_step(plan.next_position(), n);
    built_unit_ = nothing;
    return {};
  }

  template <class Evidence>
  [[nodiscard]] result<void> attend(std::size_t layer, rows_view<const float> q, rows_view<const float> k,
                                    rows_view<const float> v, rows_view<float> out, const executor_ref& executor,
                                    Evidence& evidence);
  [[nodiscard]] result<void> attend(std::size_t layer, rows_view<const float> q, rows_view<const float> k,
                                    rows_view<const float> v, rows_view<float> out, const executor_ref& executor) {
    no_evidence_wanted nothing_wanted;
    return attend(layer, q, k, v, out, executor, nothing_wanted);
  }

  /// What attention_evidence is sized by.
  [[nodiscard]] kvkeep::evidence_shape evidence_shape() const noexcept {
    return {.query_heads = shape.query_heads,
            .kv_heads = shape.kv_heads,
            .slots = plan.planned_blocks() * block_tokens,
            .tokens = max_step_,
            .together = attention_.together(),
            .regions = attention_.regions()};
  }

  /// Commits without telling the listener; tell() follows when the step is closed.
  [[nodiscard]] result<void> commit(std::size_t count, const commit_evidence& evidence) {
    if (count > 0 && count <= plan.step_tokens()) {
      const auto missing = std::find(attended_.begin(), attended_.end(), std::uint8_t{0});
      if (missing != attended_.end()) {
        return make_error(
            errc::wrong_state, "commit",
            fmt::format("commit before layer {} of {} was attended", missing - attended_.begin(), shape.layers));
      }
    }
    if constexpr (memory_type::decided_by_attention) {
      if (auto ok = shorten(count, evidence); !ok) return ok;
    }
    if (auto ok = plan.try_commit(count, evidence); !ok) return ok;
    if (count == 0) return {};
    if constexpr (retrieves) file(count);
    settle();
    return {};
  }
  /// Tells the listener what the last commit or message dropped.
  void tell(drop_reason reason) const {
    if (!on_drop_) return;
    for (std::size_t u = 0; u < plan.units(); ++u) {
      const unit_plan& done = plan.last(u);
      if (!done.dropped.empty()) on_drop_({u, reason, done.dropped, plan.next_position()});
    }
  }

  void abort() noexcept { plan.abort(); }
  /// Tokens of the open step; 0: none is open.
  [[nodiscard]] std::size_t step_tokens() const noexcept { return plan.step_tokens(); }

  [[nodiscard]] result<void> reserve(std::size_t n) {
    if constexpr (retrieves) {
      if (auto ok = plan.check_closed("reserve"); !ok) return ok;
      return check_memory(n);  // what is filed makes room for all that can come
    }
    if (auto ok = plan.try_reserve(n); !ok) return ok;
    settle();
    tell(drop_reason::reserved);
    return {};
  }
  [[nodiscard]] result<void> erase(position first, position last) {
    if (auto ok = plan.try_erase(first, last); !ok) return ok;
    if constexpr (retrieves) {
      forget_dropped();
      memory.erase(number_of(first), number_of(last));
    }
    settle();
    tell(drop_reason::erased);
    return {};
  }
  [[nodiscard]] result<void> clear() {
    if (auto ok = plan.check_closed("clear"); !ok) return ok;
    if constexpr (has_tiers) {
      if (memory.tiered()) {
        if (auto ok = memory.tiers.clear(); !ok) return ok;
      }
    }
    if (auto ok = plan.try_clear(); !ok) return ok;
    settle();
    if constexpr (retrieves) memory.reset();
    tell(drop_reason::cleared);
    return {};
  }

  [[nodiscard]] result<void> read(std::size_t layer, std::size_t kv_head, position at, std::span<float> key,
                                  std::span<float> value) const;
  [[nodiscard]] result<void> export_row(std::size_t layer, std::size_t kv_head, position at,
                                        std::span<std::byte> key_bytes, std::span<std::byte> value_bytes) const;

  /// The lane of the store that holds a layer and kv head; lanes of different units share blocks, not slots.
  [[nodiscard]] std::size_t lane_of(std::size_t layer, std::size_t kv_head) const noexcept {
    if (plan.used_scope() == kvkeep::scope::sequence) return layer * shape.kv_heads + kv_head;
    if (plan.used_scope() == kvkeep::scope::layer) return kv_head;
    return 0;
  }

  model_shape shape;
  Policy policy;
  planner_type plan;
  kv_store<KeyCodec, ValueCodec> store;
  memory_type memory;
  cache_bytes used;

 private:
  static constexpr std::size_t nothing = ~std::size_t{0};

  cache_core(const model_shape& s, const Policy& p, const cache_options& options, planner_type&& made)
      : shape(s),
        policy(p),
        plan(std::move(made)),
        memory(make_memory(plan, s, options)),
        attention_(sizes(options)),
        on_drop_(options.on_drop) {
    if (plan.used_scope() == kvkeep::scope::sequence) lanes_ = shape.layers * shape.kv_heads;
    if (plan.used_scope() == kvkeep::scope::layer) lanes_ = shape.kv_heads;
    turns_ = std::holds_alternative<rope>(options.positions);
    if (!turns_) plan.ignore_angles();
    max_step_ = options.max_step;
    workers_ = options.workers;
    max_shortened_ = options.max_shortened;
  }

  [[nodiscard]] static memory_type make_memory(const planner_type& made, const model_shape& s,
                                               const cache_options& options) {
    if constexpr (has_tiers) {
      return memory_type(made.rules(), s, options.tiers, bytes_of_unit(made.rules(), s, options));
    } else if constexpr (retrieves) {
      return memory_type(made.rules(), s);
    } else {
      return {};
    }
  }
  template <class Rules>
  [[nodiscard]] static unit_bytes bytes_of_unit(const Rules& rules, const model_shape& s,
                                                const cache_options& options) {
    using stored = kv_store<KeyCodec, ValueCodec>;
    const unit_memory_rules units = unit_rules_of(rules);
    return {.frame = stored::record_bytes({}, s.head_dim, s.kv_heads * units.unit_blocks()),
            .record = stored::record_bytes(options.tiers.cold, s.head_dim, units.record_blocks(s.kv_heads))};
  }
  /// Makes the file of units, if there is to be one.
  [[nodiscard]] result<void> open_tiers();
  /// Room for filed tokens.
  [[nodiscard]] filed_blocks filed() const noexcept {
    if constexpr (retrieves) {
      const std::size_t first = memory.layers().first * shape.kv_heads;
      return {memory.filed_blocks(), first, first + memory.layers().before(shape.layers) * shape.kv_heads};
    }
    return {};
  }
  /// Bytes of indexes, which are not the arena's.
  [[nodiscard]] std::size_t index_bytes() const {
    if constexpr (indexed) return memory.index_bytes();
    return 0;
  }
  [[nodiscard]] std::size_t number_of(position at) const noexcept {
    return static_cast<std::size_t>(at - plan.first_position());
  }
  /// An error where n more tokens would not fit the memory.
  [[nodiscard]] result<void> check_memory(std::size_t n) const;
  /// An error where a step of n tokens cannot be one that may be shortened.
  [[nodiscard]] result<void> check_shortened(std::size_t n, bool shortens) const;
  /// Makes the memory what it would be had only `count` tokens of the step come, if those are not all.
  [[nodiscard]] result<void> shorten(std::size_t count, const commit_evidence& evidence);
  /// Attends one layer's queries, the step's first ones, whose rows are stored.
  template <class Evidence>
  [[nodiscard]] result<void> attend_with_memory(std::size_t layer, rows_view<const float> q, rows_view<float> out,
                                                const executor_ref& executor, Evidence& evidence);
  /// The rows of a layer's queries, those that may be attended again.
  [[nodiscard]] std::span<float> queries_of(std::size_t layer) const noexcept {
    const std::size_t length = max_shortened_ * shape.query_heads * shape.head_dim;
    return kept_queries_.subspan(layer * length, length);
  }
  void keep_queries(std::size_t layer, rows_view<const float> q) noexcept;
  /// Files what the plan dropped when n tokens were committed.
  void file(std::size_t n);
  void forget_dropped() noexcept;

  [[nodiscard]] attention_sizes sizes(const cache_options& options) const;
  /// Whether keys are stored turned and raw: where they are not turned at all, both forms are one.
  [[nodiscard]] bool both_forms() const noexcept { return turns_ && plan.storage().both(); }
  [[nodiscard]] static planner_options plan_options(const cache_options& o) {
    return {.max_step = o.max_step, .first_position = o.first_position};
  }
  /// Distances whose angles are tabled: all that occur, but no more than tokens that can be read.
  [[nodiscard]] std::size_t near_distances() const {
    const std::size_t length = scaling_length();
    const std::size_t read = plan.kept().in_step;
    return length == 0 ? read + 1 : (std::min)(length, read + 1);
  }

  using rules_type = typename planner_type::rules_type;
  [[nodiscard]] static result<void> check(const model_shape& shape, const rules_type& rules,
                                          const cache_options& options);
  [[nodiscard]] result<void> check_encoding(const cache_options& options) const;
  [[nodiscard]] std::size_t scaling_length() const {
    const auto most = plan.largest_distance();
    return most ? static_cast<std::size_t>((std::max)(*most, position{0})) + 1 : 0;
  }
  [[nodiscard]] result<slot> slot_of(std::size_t layer, std::size_t kv_head, position at) const {
    if (layer >= shape.layers) return bad_argument("layer", layer, fmt::format("0 .. {}", shape.layers - 1));
    if (kv_head >= shape.kv_heads) return bad_argument("kv_head", kv_head, fmt::format("0 .. {}", shape.kv_heads - 1));
    for (const slot s : plan.held_slots(plan.unit_of(layer, kv_head))) {
      if (plan.position_of(s) == at) return s;
    }
    return bad_argument("at", at, "a position that is held");
  }
  void lay_out(arena& place);
  void fill(const cache_options& options);

  template <class T>
  [[nodiscard]] result<void> check_rows(std::string_view name, const rows_view<T>& rows, std::size_t heads) const;
  void store_rows(std::size_t layer, rows_view<const float> k, rows_view<const float> v);
  /// Attends the queries of some kv heads of a layer that share a unit and a variant.
  template <class Evidence>
  void attend_heads(std::size_t layer, std::span<const std::uint32_t> heads, rows_view<const float> q,
                    rows_view<float> out, const executor_ref& executor, Evidence& evidence);
  /// Builds the views of queries first .. last - 1 of a unit, as many as fit. Those of the last call are kept.
  void build_views(std::size_t unit, std::size_t variant, std::size_t first, std::size_t last);
  /// Moves the rows that the plan moves.
  void settle();

  layer_attention<KeyCodec, ValueCodec> attention_;
  drop_listener on_drop_;
  std::size_t lanes_ = 1;
  std::size_t max_step_ = 0;
  std::size_t workers_ = 1;
  std::size_t max_shortened_ = 0;
  bool turns_ = false;     // RoPE
  bool shortens_ = false;  // the open step
  bool half_shortened_ =
      false;  // shorten() failed: what is known of the open step is that of fewer tokens in some layers
  std::size_t built_unit_ =
      nothing;                     // whose views attention_ has: a step of few tokens builds them once for all layers
  std::size_t built_variant_ = 0;  // of them

  arena memory_;
  std::span<std::uint8_t> attended_;  // [layers]
  std::span<std::uint32_t> heads_;    // [kv_heads]: all, in order
  std::span<std::uint32_t> some_;     // [kv_heads], where select rules have variants: those of one
  std::span<float> key_row_;          // [head_dim]
  std::span<float> kept_queries_;     // [layers][max_shortened][query_heads][head_dim], where attention decides
  std::span<float> kept_outputs_;     // [max_shortened][query_heads][head_dim]: thrown away
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#include "kvkeep/cache/cache_core_impl.hpp"
#include "kvkeep/cache/memory_attention_impl.hpp"

#endif
