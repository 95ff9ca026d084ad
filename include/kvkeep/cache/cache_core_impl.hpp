// cache_core_impl: the larger member functions of cache_core. Included by cache_core.hpp.
#ifndef KVKEEP_CACHE_CACHE_CORE_IMPL_HPP
#define KVKEEP_CACHE_CACHE_CORE_IMPL_HPP

#include "kvkeep/cache/cache_core.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

template <class Policy, codec KeyCodec, codec ValueCodec>
result<void> cache_core<Policy, KeyCodec, ValueCodec>::check(const model_shape& shape, const cache_options& options) {
  if (auto ok = KeyCodec::check(shape.head_dim); !ok) return ok;
  if (auto ok = ValueCodec::check(shape.head_dim); !ok) return ok;
  if (!std::isfinite(options.scale) || options.scale < 0.0F) {
    return bad_argument("scale", options.scale, "finite and > 0, or 0 for 1 / sqrt(head_dim)");
  }
  if (!std::isfinite(options.softcap) || options.softcap < 0.0F) {
    return bad_argument("softcap", options.softcap, "finite and > 0, or 0 for none");
  }
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
  if (const rope* const r = std::get_if<rope>(&options.positions)) {
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
void cache_core<Policy, KeyCodec, ValueCodec>::lay_out(arena& memory) {
  const std::size_t dim = shape.head_dim;
  const std::size_t group = shape.group();
  store.lay_out(memory, lanes_, plan.planned_blocks(), dim);
  rotator_.lay_out(memory, pairs_, rope_ ? max_step_ : 0, near_);
  attended_ = memory.take<std::uint8_t>(shape.layers);
  slopes_ = memory.take<float>(alibi_ ? shape.query_heads : 0);
  sink_logits_ = memory.take<float>(sink_logit_count_);
  key_row_ = memory.take<float>(dim);
  const std::size_t queries = queries_at_once();
  turned_ = memory.take<float>(queries * group * dim);
  accumulated_ = memory.take<float>(queries * group * dim);
  states_ = memory.take<softmax_state>(queries * group);
  spans_ = memory.take<key_span>(std::max(plan.kept().in_step, queries * (plan.planned_blocks() + 1)));
  built_ = memory.take<std::span<key_span>>(queries);
  viewed_ = memory.take<std::span<key_span>>(queries);
  runs_ = memory.take<query_run>(queries);
  scratch_.lay_out(memory, queries, group, keys_turn() ? turned_key_floats<KeyCodec>(dim) : 0);
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::fill(const cache_options& options) {
  scale_ =
      options.scale != 0.0F ? options.scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
  softcap_ = options.softcap;
  std::copy(options.sink_logits.begin(), options.sink_logits.end(), sink_logits_.begin());
  if (const rope* const r = std::get_if<rope>(&options.positions)) {
    const auto frequencies = try_rope_frequencies(*r, shape.head_dim, r->length != 0 ? r->length : scaling_length());
    rotator_.fill(*r, *frequencies);
  }
  if (const alibi* const a = std::get_if<alibi>(&options.positions)) {
    const std::vector<float> slopes = a->slopes.empty() ? alibi_slopes(shape.query_heads) : a->slopes;
    std::copy(slopes.begin(), slopes.end(), slopes_.begin());
  }
  for (std::size_t g = 0; g < states_.size(); ++g) {
    states_[g] = softmax_state{.accumulated = accumulated_.subspan(g * shape.head_dim, shape.head_dim)};
  }
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
result<void> cache_core<Policy, KeyCodec, ValueCodec>::attend(std::size_t layer, rows_view<const float> q,
                                                              rows_view<const float> k, rows_view<const float> v,
                                                              rows_view<float> out) {
  if (layer >= shape.layers) return bad_argument("layer", layer, fmt::format("0 .. {}", shape.layers - 1));
  if (attended_[layer] != 0) {
    return make_error(errc::wrong_state, "layer", fmt::format("layer = {} was attended in this step already", layer));
  }
  if (auto ok = check_rows("q", q, shape.query_heads); !ok) return ok;
  if (auto ok = check_rows("k", k, shape.kv_heads); !ok) return ok;
  if (auto ok = check_rows("v", v, shape.kv_heads); !ok) return ok;
  if (auto ok = check_rows("out", out, shape.query_heads); !ok) return ok;

  store_rows(layer, k, v);
  attended_[layer] = 1;
  // Heads of one unit read the same keys: they share the views.
  for (std::size_t first = 0; first < shape.kv_heads;) {
    const std::size_t unit = plan.unit_of(layer, first);
    std::size_t last = first + 1;
    while (last < shape.kv_heads && plan.unit_of(layer, last) == unit) ++last;
    for (std::size_t t = 0; t < plan.step_tokens();) {
      const std::size_t count = build_views(unit, t);
      for (std::size_t h = first; h < last; ++h) attend_built(layer, h, q, out);
      t += count;
    }
    first = last;
  }
  return {};
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::store_rows(std::size_t layer, rows_view<const float> k,
                                                          rows_view<const float> v) {
  const std::size_t dim = shape.head_dim;
  for (std::size_t h = 0; h < shape.kv_heads; ++h) {
    const std::span<const slot> slots = plan.new_slots(plan.unit_of(layer, h));
    const std::size_t lane = lane_of(layer, h);
    for (std::size_t t = 0; t < slots.size(); ++t) {
      const std::span<const float> row(k.row(t, h), dim);
      std::span<const float> stored = row;
      if (rope_ && !applied_) {
        const position at = plan.next_position() + static_cast<position>(t);
        if (plan.raw(at)) {
          rotator_.keep_raw(row, key_row_.data());
        } else {
          rotator_.turn(at, row, key_row_.data());
        }
        stored = key_row_;
      }
      store.write(lane, slots[t], stored, {v.row(t, h), dim});
    }
  }
}

template <class Policy, codec KeyCodec, codec ValueCodec>
std::size_t cache_core<Policy, KeyCodec, ValueCodec>::build_views(std::size_t unit, std::size_t first) {
  if (unit == built_unit_ && first == built_first_) return built_count_;
  const std::size_t most = std::min(viewed_.size(), plan.step_tokens() - first);
  std::size_t taken = 0;
  std::size_t count = 0;
  for (; count < most; ++count) {
    const query_view view = plan.view(unit, first + count);
    if (taken + view.spans.size() > spans_.size()) break;  // never the first: there is room for one of any size
    viewed_[count] = spans_.subspan(taken, view.spans.size());
    std::copy(view.spans.begin(), view.spans.end(), viewed_[count].begin());
    taken += view.spans.size();
    distance_ = view.distance;
  }
  built_unit_ = unit;
  built_first_ = first;
  built_count_ = count;
  return count;
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::turn_query(std::size_t head, std::size_t query, position angle,
                                                          rows_view<const float> q, float* turned) {
  const std::size_t dim = shape.head_dim;
  const std::span<const float> row(q.row(query, head), dim);
  if (!rope_) {
    std::copy(row.begin(), row.end(), turned);
  } else if (plan.storage().scattered) {
    rotator_.keep_raw(row, turned);
  } else {
    rotator_.turn(applied_ ? angle - (plan.next_position() + static_cast<position>(query)) : angle, row, turned);
  }
  for (std::size_t c = 0; c < dim; ++c) turned[c] *= scale_;
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::attend_built(std::size_t layer, std::size_t kv_head,
                                                            rows_view<const float> q, rows_view<float> out) {
  const std::size_t dim = shape.head_dim;
  const std::size_t group = shape.group();
  const std::size_t first_head = kv_head * group;
  const auto lane = store.view(lane_of(layer, kv_head));
  const score_options options{
      softcap_, alibi_ ? std::span<const float>(slopes_.subspan(first_head, group)) : std::span<const float>()};
  for (std::size_t i = 0; i < built_count_ * group; ++i) {
    states_[i].clear();
    if (!sink_logits_.empty()) {
      states_[i].max = sink_logits_[first_head + i % group];
      states_[i].sum = 1.0F;
    }
  }
  std::copy(viewed_.begin(), viewed_.begin() + static_cast<std::ptrdiff_t>(built_count_), built_.begin());

  // One pass for the largest angle of every query, where almost all keys are; then the next angles of those that have more.
  for (;;) {
    std::size_t count = 0;
    for (std::size_t t = 0; t < built_count_; ++t) {
      std::span<key_span>& left = built_[t];
      if (left.empty()) continue;
      const position angle = left.back().angle;
      std::size_t begin = left.size() - 1;
      while (begin > 0 && left[begin - 1].angle == angle) --begin;
      float* const turned = turned_.data() + count * group * dim;
      for (std::size_t g = 0; g < group; ++g) turn_query(first_head + g, built_first_ + t, angle, q, turned + g * dim);
      runs_[count++] = {left.subspan(begin), turned, states_.subspan(t * group, group), distance_};
      left = left.first(begin);
    }
    if (count == 0) break;
    if (keys_turn()) {
      kvkeep::attend_scattered(
          lane, runs_[0],
          [&](const float* keys, const position* distance, std::uint32_t mask, float* turned) {
            rotator_.turn_block(keys, distance, mask, turned, dim);
          },
          options, scratch_);
    } else {
      kvkeep::attend(lane, std::span<const query_run>(runs_.first(count)), options, scratch_);
    }
  }
  for (std::size_t t = 0; t < built_count_; ++t) {
    for (std::size_t g = 0; g < group; ++g) {
      states_[t * group + g].finish({out.row(built_first_ + t, first_head + g), dim});
    }
  }
}

template <class Policy, codec KeyCodec, codec ValueCodec>
void cache_core<Policy, KeyCodec, ValueCodec>::settle() {
  for (std::size_t l = 0; l < shape.layers; ++l) {
    for (std::size_t h = 0; h < shape.kv_heads; ++h) {
      const std::size_t lane = lane_of(l, h);
      for (const token_move& m : plan.last(plan.unit_of(l, h)).moves) store.move(lane, m.from, m.to);
    }
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
