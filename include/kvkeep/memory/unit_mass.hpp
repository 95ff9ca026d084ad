// unit_mass: what every unit that is read gets of attention: what decides, under some rules, which stay in RAM.
#ifndef KVKEEP_MEMORY_UNIT_MASS_HPP
#define KVKEEP_MEMORY_UNIT_MASS_HPP

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>

#include "kvkeep/attention/evidence.hpp"
#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Sums by frame over the queries of a batch and all heads.
class unit_mass {
 public:
  /// The observer of attention over units; see attention_evidence, whose protocol this is. Query heads of a kv head that are
  /// attended alone are told apart by `first_head`.
  struct record_type : weight_record {
    std::size_t first_head = 0;

    void operator()(std::size_t query, std::size_t head, std::span<const std::uint32_t> blocks,
                    const std::uint16_t* masks, const float* made, float reference) const noexcept {
      weight_record::operator()(query, first_head + head, blocks, masks, made, reference);
    }
  };

  /// slots: of the cache and of frames; frames: 0 if nobody asks.
  void lay_out(arena& memory, const evidence_shape& shape, std::size_t slots, std::size_t frames) {
    shape_ = shape;
    slots_ = slots;
    frames_ = frames;
    if (frames == 0) return;
    const std::size_t rows = shape.regions * rows_of_region();
    weights_ = memory.take<float>(rows * slots);
    references_ = memory.take<float>(rows * weight_record::stride_of(slots));
    sums_ = memory.take<double>(shape.kv_heads * frames);
  }
  [[nodiscard]] bool wanted() const noexcept { return frames_ > 0; }

  [[nodiscard]] record_type record(std::size_t region) const noexcept {
    record_type made;
    if (!wanted()) return made;
    const std::size_t stride = weight_record::stride_of(slots_);
    made.group = shape_.query_heads / shape_.kv_heads;
    made.slots = slots_;
    made.weights = weights_.subspan(region * rows_of_region() * slots_, rows_of_region() * slots_);
    made.references = references_.subspan(region * rows_of_region() * stride, rows_of_region() * stride);
    return made;
  }
  void begin_batch() noexcept { std::fill(sums_.begin(), sums_.end(), 0.0); }
  /// Adds what a region recorded of a kv head, whose final states these are, [queries][group]: reads(i) are the spans of row i, and
  /// frame_of(slot) the frame of what is in a slot, or at least frames().
  template <class Reads, class FrameOf>
  void take(const record_type& record, std::size_t kv_head, std::span<const softmax_state> states, const Reads& reads,
            const FrameOf& frame_of) noexcept {
    for (std::size_t i = 0; i < states.size(); ++i) {
      record.scale(i, states[i]);
      for (const key_span& span : reads(i)) {
        const float factor = record.references_of(i)[span.block];
        for (std::uint32_t rows = span.mask; rows != 0 && factor != 0.0F; rows &= rows - 1) {
          const std::size_t s =
              std::size_t{span.block} * block_tokens + static_cast<std::size_t>(std::countr_zero(rows));
          const std::size_t frame = frame_of(s);
          const float mass = record.weights_of(i)[s] * factor;
          // Of a query that is not finite nothing is counted: a sum would never be a number again.
          if (frame < frames_ && !is_nan(mass)) sums_[kv_head * frames_ + frame] += static_cast<double>(mass);
        }
      }
    }
  }
  /// The sum of a frame over all heads.
  [[nodiscard]] double sum(std::size_t frame) const noexcept {
    double all = 0.0;
    for (std::size_t i = frame; i < sums_.size(); i += frames_) all += sums_[i];
    return all;
  }

 private:
  [[nodiscard]] std::size_t rows_of_region() const noexcept {
    return shape_.together * (shape_.query_heads / shape_.kv_heads);
  }

  evidence_shape shape_{};
  std::size_t slots_ = 0;
  std::size_t frames_ = 0;
  std::span<float> weights_;     // [regions][queries * group][slots]
  std::span<float> references_;  // [regions][queries * group][stride_of(slots)]
  std::span<double> sums_;       // [kv_heads][frames]
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
