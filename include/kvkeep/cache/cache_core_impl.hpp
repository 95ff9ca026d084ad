// cache_core_impl: the larger member functions of cache_core. Included by cache_core.hpp.
#ifndef KVKEEP_CACHE_CACHE_CORE_IMPL_HPP
#define KVKEEP_CACHE_CACHE_CORE_IMPL_HPP

#include <cmath>
#include <tuple>
#include <utility>

#include "kvkeep/cache/cache_core.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::check(const model_shape& shape,
                                                             [[maybe_unused]] const rules_type& rules,
                                                             const cache_options& options) {
  if constexpr (retrieves) {
    if (auto ok = rules.select.layers.check(shape.layers); !ok) return ok;
    if constexpr (requires { rules.select.ceiling; }) {
      if (rules.select.ceiling && std::holds_alternative<no_positions>(options.positions)) {
        return bad_argument("ceiling", *rules.select.ceiling, "none with no_positions: nothing depends on a distance");
      }
    }
  }
  if (auto ok = KeyCodec::check(shape.head_dim); !ok) return ok;
  if (auto ok = ValueCodec::check(shape.head_dim); !ok) return ok;
  if constexpr (has_tiers) {
    if (auto ok = check_tiers(options.tiers, shape.head_dim); !ok) return ok;
    if (auto ok = memory_type::check(rules, shape, options.tiers, bytes_of_unit(rules, shape, options)); !ok) return ok;
  } else if (auto ok = check_tiers(options.tiers, shape.head_dim); !ok || options.tiers.hot_bytes != 0) {
    if (!ok) return ok;
    return make_error(errc::unsupported, "tiers.hot_bytes",
                      fmt::format("tiers.hot_bytes = {}; allowed: 0: this policy retrieves no memory units",
                                  options.tiers.hot_bytes));
  }
  if (!std::isfinite(options.scale) || options.scale < 0.0F) {
    return bad_argument("scale", options.scale, "finite and > 0, or 0 for 1 / sqrt(head_dim)");
  }
  if (!std::isfinite(options.softcap) || options.softcap < 0.0F) {
    return bad_argument("softcap", options.softcap, "finite and > 0, or 0 for none");
  }
  if (options.workers < 1 || options.workers > 1024) return bad_argument("workers", options.workers, "1 .. 1024");
  if (options.max_shortened > options.max_step) {
    return bad_argument("max_shortened", options.max_shortened, fmt::format("0 .. max_step = {}", options.max_step));
  }
  bool needs_queries = memory_type::decided_by_attention;
  if constexpr (memory_type::decided_by_attention) needs_queries = unit_rules_of(rules).execution == 0;
  if (options.max_shortened > 0 && !needs_queries) {
    return bad_argument("max_shortened", options.max_shortened,
                        "0: this policy needs no queries to shorten a step, or cannot");
  }
  if (options.key_parts < 1 || options.key_parts > 1024)
    return bad_argument("key_parts", options.key_parts, "1 .. 1024");
  if (!options.sink_logits.empty() && options.sink_logits.size() != shape.query_heads) {
    return bad_argument("sink_logits", fmt::format("{} values", options.sink_logits.size()),
                        fmt::format("none or query_heads = {}", shape.query_heads));
  }
  for (std::size_t h = 0; h < options.sink_logits.size(); ++h) {
    if (!std::isfinite(options.sink_logits[h])) {
      return bad_argument(fmt::format("sink_logits[{}]", h), options.sink_logits[h], "finite");
    }
  }
  return {};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::check_encoding(const cache_options& options) const {
  const key_storage storage = plan.storage();
  if (storage.raw_below < 0) return bad_argument("storage.raw_below", storage.raw_below, ">= 0");
  if (storage.raw_from_age < 0 || (storage.scattered && storage.raw_from_age > 0)) {
    return bad_argument("storage.raw_from_age", storage.raw_from_age,
                        storage.scattered ? "0 where keys are scattered: all of them are raw" : ">= 0");
  }
  if (const rope* const r = std::get_if<rope>(&options.positions)) {
    if (r->length != 0 && !depends_on_length(r->scaling)) {
      return bad_argument("rope.length", r->length, "0: this scaling does not depend on the length");
    }
    const std::size_t length = r->length != 0 ? r->length : scaling_length();
    if (depends_on_length(r->scaling) && length == 0) {
      return bad_argument("rope.length", 0,
                          ">= 1: this scaling depends on the length, and this policy's distances have "
                          "no largest one");
    }
    const auto frequencies = try_rope_frequencies(*r, shape.head_dim, length);
    if (!frequencies) return frequencies.error();
    if (r->applied && !plan.storage().all_rotated()) {
      return make_error(
          errc::unsupported, "rope.applied",
          "rope.applied = true: this policy's distance rule stores keys before RoPE, so the engine must not "
          "have rotated them");
    }
  }
  if (const alibi* const a = std::get_if<alibi>(&options.positions)) {
    if (!a->slopes.empty() && a->slopes.size() != shape.query_heads) {
      return bad_argument("alibi.slopes", fmt::format("{} values", a->slopes.size()),
                          fmt::format("none or query_heads = {}", shape.query_heads));
    }
    for (std::size_t h = 0; h < a->slopes.size(); ++h) {
      if (!std::isfinite(a->slopes[h])) return bad_argument(fmt::format("alibi.slopes[{}]", h), a->slopes[h], "finite");
    }
  }
  return {};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
attention_sizes cache_core<Policy, KeyCodec, ValueCodec>::sizes(const cache_options& options) const {
  attention_sizes out;
  out.shape = shape;
  out.max_step = options.max_step;
  out.blocks = plan.planned_blocks();
  out.most_spans = plan.kept().in_step;
  out.workers = options.workers;
  out.key_parts = options.key_parts;
  out.sink_logits = options.sink_logits.size();
  out.alibi = std::holds_alternative<alibi>(options.positions);
  if (const rope* const r = std::get_if<rope>(&options.positions)) {
    out.applied = r->applied;
    out.pairs = rotary_dim_of(*r, shape.head_dim) / 2;
    out.turns_keys = plan.storage().scattered;
    out.near = out.turns_keys ? near_distances() : 0;
    out.both = plan.storage().both();
  }
  return out;
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::lay_out(arena& place) {
  store.lay_out(place, lanes_, plan.planned_blocks(), shape.head_dim, both_forms(), filed());
  attention_.lay_out(place);
  if constexpr (retrieves) memory.lay_out(place, evidence_shape());
  attended_ = place.take<std::uint8_t>(shape.layers);
  heads_ = place.take<std::uint32_t>(shape.kv_heads);
  some_ = place.take<std::uint32_t>(varies ? shape.kv_heads : 0);
  key_row_ = place.take<float>(shape.head_dim);
  const std::size_t kept = memory_type::decided_by_attention ? max_shortened_ * shape.query_heads * shape.head_dim : 0;
  kept_queries_ = place.take<float>(shape.layers * kept);
  kept_outputs_ = place.take<float>(kept);
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::fill(const cache_options& options) {
  const float scale =
      options.scale != 0.0F ? options.scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
  rope_frequencies frequencies;
  if (const rope* const r = std::get_if<rope>(&options.positions)) {
    frequencies = *try_rope_frequencies(*r, shape.head_dim, r->length != 0 ? r->length : scaling_length());
  }
  attention_.fill(options.positions, frequencies, scale, options.softcap, options.sink_logits);
  for (std::size_t h = 0; h < heads_.size(); ++h) heads_[h] = static_cast<std::uint32_t>(h);
  if constexpr (retrieves) memory.reset();
}

template <class Policy, codec KeyCodec, codec ValueCodec>
template <class T>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::check_rows(std::string_view name, const rows_view<T>& rows,
                                                                  std::size_t heads) const {
  const std::size_t tokens = plan.step_tokens();
  if (rows.tokens() != tokens || rows.heads() != heads || rows.head_dim() != shape.head_dim) {
    return bad_argument(name, fmt::format("[{}, {}, {}]", rows.tokens(), rows.heads(), rows.head_dim()),
                        fmt::format("[tokens, heads, head_dim] = [{}, {}, {}]", tokens, heads, shape.head_dim));
  }
  if (rows.token_stride() < heads * shape.head_dim) {
    return bad_argument(fmt::format("{}.token_stride", name), rows.token_stride(),
                        fmt::format(">= heads * head_dim = {}", heads * shape.head_dim));
  }
  if (rows.data() == nullptr) return bad_argument(fmt::format("{}.data", name), "null", "a pointer to its rows");
  return {};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
template <class Evidence>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::attend(std::size_t layer, rows_view<const float> q,
                                                              rows_view<const float> k, rows_view<const float> v,
                                                              rows_view<float> out, const executor_ref& executor,
                                                              Evidence& evidence) {
  if (layer >= shape.layers) return bad_argument("layer", layer, fmt::format("0 .. {}", shape.layers - 1));
  if (attended_[layer] != 0) {
    return make_error(errc::wrong_state, "layer", fmt::format("layer = {} was attended in this step already", layer));
  }
  if (auto ok = check_rows("q", q, shape.query_heads); !ok) return ok;
  if (auto ok = check_rows("k", k, shape.kv_heads); !ok) return ok;
  if (auto ok = check_rows("v", v, shape.kv_heads); !ok) return ok;
  if (auto ok = check_rows("out", out, shape.query_heads); !ok) return ok;
  if (const std::size_t workers = executor.workers(); workers < 1 || workers > workers_) {
    return bad_argument("executor.workers", workers, fmt::format("1 .. {}, cache_options::workers", workers_));
  }
  if constexpr (!std::is_same_v<Evidence, no_evidence_wanted>) {
    if (auto ok = evidence.check(evidence_shape()); !ok) return ok;
    evidence.begin(plan.step_tokens());
  }

  store_rows(layer, k, v);
  if constexpr (retrieves) {
    if constexpr (memory_type::decided_by_attention) {
      if (shortens_) keep_queries(layer, q);
    }
    if (auto ok = attend_with_memory(layer, q, out, executor, evidence); !ok) return ok;
    attended_[layer] = 1;
    return {};
  }
  // Heads of one unit and variant read the same keys: they share the views.
  if (plan.used_scope() == kvkeep::scope::kv_head) {
    for (std::size_t h = 0; h < shape.kv_heads; ++h) {
      attend_heads(layer, heads_.subspan(h, 1), q, out, executor, evidence);
    }
  } else if constexpr (varies) {
    for (std::size_t variant = 0; variant < plan.variants(); ++variant) {
      std::size_t count = 0;
      for (const std::uint32_t h : heads_) {
        if (plan.variant_of(layer, h) == variant) some_[count++] = h;
      }
      if (count > 0) attend_heads(layer, some_.first(count), q, out, executor, evidence);
    }
  } else {
    attend_heads(layer, heads_, q, out, executor, evidence);
  }
  attended_[layer] = 1;  // not before: what a rule or an executor throws leaves the layer to be attended again
  return {};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
template <class Evidence>
void cache_core<Policy, KeyCodec, ValueCodec>::attend_heads(std::size_t layer, std::span<const std::uint32_t> heads,
                                                            rows_view<const float> q, rows_view<float> out,
                                                            const executor_ref& executor, Evidence& evidence) {
  const auto lane = [&](std::size_t head, bool raw) {
    return raw ? store.raw_view(lane_of(layer, head)) : store.view(lane_of(layer, head));
  };
  const std::size_t unit = plan.unit_of(layer, heads.front());
  const std::size_t variant = plan.variant_of(layer, heads.front());
  for (std::size_t t = 0; t < plan.step_tokens(); t += attention_.count()) {
    build_views(unit, variant, t, plan.step_tokens());
    attention_.attend(heads, lane, q, out, executor, evidence);
  }
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::store_rows(std::size_t layer, rows_view<const float> k,
                                                          rows_view<const float> v) {
  const std::size_t dim = shape.head_dim;
  for (std::size_t h = 0; h < shape.kv_heads; ++h) {
    const std::span<const slot> slots = plan.new_slots(plan.unit_of(layer, h));
    const std::size_t lane = lane_of(layer, h);
    for (std::size_t t = 0; t < slots.size(); ++t) {
      const position at = plan.next_position() + static_cast<position>(t);
      const std::span<const float> key{k.row(t, h), dim};
      const bool both = both_forms();
      store.write(lane, slots[t], attention_.stored_row(key, at, plan.raw(at) && !both, key_row_), {v.row(t, h), dim});
      if (both) store.write_raw(lane, slots[t], attention_.stored_row(key, at, true, key_row_));
    }
  }
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::build_views(std::size_t unit, std::size_t variant, std::size_t first,
                                                           std::size_t last) {
  if (unit == built_unit_ && variant == built_variant_ && first == attention_.first()) return attention_.attend_all();
  built_unit_ = nothing;  // until all is done: rules may throw
  attention_.start_views(first);
  while (first + attention_.count() < last && attention_.wants_view()) {
    const query_view view = plan.view(unit, first + attention_.count(), variant);
    if (!attention_.has_room(view.spans.size())) break;
    attention_.add_view(view);
  }
  built_unit_ = unit;
  built_variant_ = variant;
}

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::read(std::size_t layer, std::size_t kv_head, position at,
                                                            std::span<float> key, std::span<float> value) const {
  for (const auto& [name, row] : {std::pair{"key", key}, std::pair{"value", value}}) {
    if (row.size() != shape.head_dim) {
      return bad_argument(name, fmt::format("{} floats", row.size()), fmt::format("head_dim = {}", shape.head_dim));
    }
  }
  const auto s = slot_of(layer, kv_head, at);
  if (!s) return s.error();
  const auto lane = store.view(lane_of(layer, kv_head));
  lane.copy_key(*s, key);
  lane.copy_value(*s, value);
  return {};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::export_row(std::size_t layer, std::size_t kv_head, position at,
                                                                  std::span<std::byte> key_bytes,
                                                                  std::span<std::byte> value_bytes) const {
  for (const auto& [name, given, wanted] :
       {std::tuple{"key_bytes", key_bytes.size(), KeyCodec::row_bytes(shape.head_dim)},
        std::tuple{"value_bytes", value_bytes.size(), ValueCodec::row_bytes(shape.head_dim)}}) {
    if (given != wanted) {
      return bad_argument(name, fmt::format("{} bytes", given), fmt::format("row_bytes(head_dim) = {}", wanted));
    }
  }
  const auto s = slot_of(layer, kv_head, at);
  if (!s) return s.error();
  store.export_row(lane_of(layer, kv_head), *s, key_bytes, value_bytes);
  return {};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::settle() {
  for (std::size_t l = 0; l < shape.layers; ++l) {
    for (std::size_t h = 0; h < shape.kv_heads; ++h) {
      const std::size_t lane = lane_of(l, h);
      for (const token_move& m : plan.last(plan.unit_of(l, h)).moves) store.move(lane, m.from, m.to);
    }
  }
  if constexpr (retrieves) {
    for (const token_move& m : plan.last().moves) memory.move(m.from, m.to);
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
