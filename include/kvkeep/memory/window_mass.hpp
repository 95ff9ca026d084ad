// window_mass: what every key of the window got of attention so far, by query head: what decides who represents a unit.
#ifndef KVKEEP_MEMORY_WINDOW_MASS_HPP
#define KVKEEP_MEMORY_WINDOW_MASS_HPP

#include <algorithm>
#include <cstddef>
#include <span>

#include "kvkeep/attention/evidence.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/policy/select/retrieve_blocks.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Sums by layer, query head and slot, committed and of the open step. A slot that holds no token has 0.
class window_mass {
 public:
  void lay_out(arena& memory, const evidence_shape& shape, std::size_t layers, representative_score by) {
    shape_ = shape;
    by_ = by;
    layer_ = shape.query_heads * shape.slots;
    for (std::span<float>& sums : sums_) sums = memory.take<float>(layers * layer_);
    const std::size_t rows = shape.regions * shape.together * (shape.query_heads / shape.kv_heads);
    weights_ = memory.take<float>(rows * shape.slots);
    references_ = memory.take<float>(rows * weight_record::stride_of(shape.slots));
  }
  void reset() noexcept {
    for (const std::span<float> sums : sums_) std::fill(sums.begin(), sums.end(), 0.0F);
  }

  /// Begins a layer of a step from what is committed.
  void begin_layer(std::size_t layer) noexcept {
    const auto first = static_cast<std::ptrdiff_t>(layer * layer_);
    std::copy_n(sums_[now_].begin() + first, layer_, sums_[1 - now_].begin() + first);
    open_ = sums_[1 - now_].subspan(layer * layer_, layer_);
  }
  /// What is known of a query head in the layer that is open, [slots].
  [[nodiscard]] std::span<const float> open(std::size_t query_head) const noexcept {
    return open_.subspan(query_head * shape_.slots, shape_.slots);
  }
  /// Makes the open sums of all layers the committed ones.
  void commit() noexcept { now_ = 1 - now_; }
  void drop(slot s) noexcept {
    for (std::size_t i = index(s); i < sums_[now_].size(); i += shape_.slots) sums_[now_][i] = 0.0F;
  }
  void move(slot from, slot to) noexcept {
    for (std::size_t row = 0; row < sums_[now_].size(); row += shape_.slots) {
      sums_[now_][row + index(to)] = sums_[now_][row + index(from)];
      sums_[now_][row + index(from)] = 0.0F;
    }
  }
  [[nodiscard]] float committed(std::size_t layer, std::size_t query_head, slot s) const noexcept {
    return sums_[now_][layer * layer_ + query_head * shape_.slots + index(s)];
  }

  /// The observer of attention over the window; see attention_evidence, whose protocol this is.
  struct record_type : weight_record {
    representative_score by = representative_score::attention_mass;

    void scores(std::size_t query, std::size_t head, std::span<const std::uint32_t> blocks, const std::uint16_t* masks,
                const float* made) const noexcept {
      if (by != representative_score::dot_product) return;
      const std::size_t row = query * group + head;
      for (std::size_t b = 0; b < blocks.size(); ++b) {
        if (masks[b] == 0) continue;
        float* const to = weights_of(row) + std::size_t{blocks[b]} * block_tokens;
        for (std::size_t r = 0; r < block_tokens; ++r)
          to[r] = (masks[b] >> r & 1U) != 0 ? made[b * block_tokens + r] : 0.0F;
        references_of(row)[blocks[b]] = 1.0F;
      }
    }
    void operator()(std::size_t query, std::size_t head, std::span<const std::uint32_t> blocks,
                    const std::uint16_t* masks, const float* made, float reference) const noexcept {
      if (by == representative_score::attention_mass) {
        weight_record::operator()(query, head, blocks, masks, made, reference);
      }
    }
  };
  [[nodiscard]] record_type record(std::size_t region) const noexcept {
    record_type made;
    const std::size_t stride = weight_record::stride_of(shape_.slots);
    made.group = shape_.query_heads / shape_.kv_heads;
    made.slots = shape_.slots;
    made.by = by_;
    const std::size_t rows = shape_.together * made.group;
    made.weights = weights_.subspan(region * rows * shape_.slots, rows * shape_.slots);
    made.references = references_.subspan(region * rows * stride, rows * stride);
    return made;
  }
  /// Adds what a region recorded of queries of a kv head, whose final states these are, [queries][group]; except(q, f) calls
  /// f(slot) for every slot of which the score or weight for query q of them is not to be counted.
  template <class Except>
  void take(const record_type& record, std::size_t kv_head, std::span<const softmax_state> states,
            const Except& except) noexcept {
    for (std::size_t i = 0; i < states.size(); ++i) {
      if (by_ == representative_score::attention_mass) record.scale(i, states[i]);
      except(i / record.group, [&](slot s) { record.weights_of(i)[index(s)] = 0.0F; });
      float* const sums = open_.data() + (kv_head * record.group + i % record.group) * shape_.slots;
      const float* const weights = record.weights_of(i);
      const float* const factors = record.references_of(i);
      for (std::size_t b = 0; b < shape_.slots / block_tokens; ++b) {
        const float factor = factors[b];
        if (!(factor != 0.0F) || are_nan(splat(factor))[0] != 0) continue;  // not read
        for (std::size_t s = b * block_tokens; s < (b + 1) * block_tokens; s += vec_width) {
          store(sums + s, load(sums + s) + load(weights + s) * splat(factor));
        }
      }
    }
  }

 private:
  evidence_shape shape_{};
  representative_score by_ = representative_score::attention_mass;
  std::size_t layer_ = 0;        // sums of a layer
  std::size_t now_ = 0;          // which of the two are committed
  std::span<float> open_;        // [query_heads][slots]: the open ones of one layer
  std::span<float> sums_[2];     // [layers][query_heads][slots]
  std::span<float> weights_;     // [regions][queries * group][slots]
  std::span<float> references_;  // [regions][queries * group][stride_of(slots)]
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
