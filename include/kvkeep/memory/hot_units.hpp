// hot_units: which units of a layer are in RAM, in which frame, and which leaves for another.
#ifndef KVKEEP_MEMORY_HOT_UNITS_HPP
#define KVKEEP_MEMORY_HOT_UNITS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/memory/unit_tiers.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// What a frame holds.
enum class frame_state : std::uint32_t {
  empty,    // nothing of its unit yet
  reading,  // being read in the background
  failed,   // that did not succeed
  ready,
};

/// Frames of all layers. Frame f of a layer is room for the rows of one unit. `state` alone is written in the background too.
struct hot_frame {
  std::uint32_t unit = ~std::uint32_t{0};
  frame_state state = frame_state::empty;
  std::uint64_t entered = 0;  // counts up
  std::uint64_t batch = 0;    // the newest batch of queries that reads it
  double value = 0.0;         // the smallest leaves
};

class hot_units {
 public:
  static constexpr std::uint32_t nowhere = ~std::uint32_t{0};

  void lay_out(arena& memory, std::size_t layers, std::size_t units, std::size_t frames) {
    units_ = units;
    frames_ = frames;
    all_ = memory.take<hot_frame>(layers * frames);
    where_ = memory.take<std::uint32_t>(layers * units);
  }
  void reset() noexcept {
    std::fill(all_.begin(), all_.end(), hot_frame{});
    std::fill(where_.begin(), where_.end(), nowhere);
  }
  void rule(const hot_rule& r) noexcept { rule_ = r; }

  [[nodiscard]] std::size_t frames() const noexcept { return frames_; }
  [[nodiscard]] std::span<hot_frame> of(std::size_t layer) const noexcept {
    return all_.subspan(layer * frames_, frames_);
  }
  /// The frame of a unit, or `nowhere`.
  [[nodiscard]] std::uint32_t frame_of(std::size_t layer, std::size_t unit) const noexcept {
    return where_[layer * units_ + unit];
  }

  /// Queries follow that are attended together: what they read stays until the next batch begins.
  void begin_batch() noexcept {
    ++batch_;
    taken_ = 0;
  }
  [[nodiscard]] bool in_batch(const hot_frame& f) const noexcept { return f.batch == batch_; }
  /// Whether the frames suffice for these units beside those of the batch; then those of them that are in frames belong to it.
  [[nodiscard]] bool admit(std::size_t layer, std::span<const std::uint32_t> units) noexcept {
    std::size_t more = 0;
    for (const std::uint32_t unit : units) {
      const std::uint32_t f = frame_of(layer, unit);
      if (f == nowhere || !in_batch(of(layer)[f])) ++more;
    }
    if (taken_ + more > frames_) return false;
    for (const std::uint32_t unit : units) {
      const std::uint32_t f = frame_of(layer, unit);
      if (f != nowhere) join(of(layer)[f]);
    }
    return true;
  }
  /// A lookup begins to use units of a layer.
  void look_up(std::size_t layer, std::span<const std::uint32_t> units) noexcept {
    ++clock_;
    const auto* const scored = std::get_if<hot::decayed>(&rule_);
    if (scored == nullptr) return;
    if (scored->since_use) {
      for (const std::uint32_t unit : units) {
        const std::uint32_t f = frame_of(layer, unit);
        if (f != nowhere) of(layer)[f].value = 0.0;
      }
    }
    for (hot_frame& f : of(layer)) f.value *= static_cast<double>(scored->decay);
  }
  /// A unit is used by the lookup that began last.
  void use(hot_frame& f) const noexcept {
    if (std::holds_alternative<hot::lru>(rule_)) f.value = static_cast<double>(clock_);
  }
  /// A unit got that much attention.
  void attended(std::size_t layer, std::uint32_t frame, double mass) noexcept {
    if (std::holds_alternative<hot::decayed>(rule_)) of(layer)[frame].value += mass;
  }
  /// Gives a unit that has none a frame, whose own unit leaves; `free(f)` tells whether a frame may be taken. Nowhere: none may.
  template <class Free>
  std::uint32_t enter(std::size_t layer, std::uint32_t unit, const Free& free) noexcept {
    const std::span<hot_frame> all = of(layer);
    std::uint32_t best = nowhere;
    for (std::uint32_t f = 0; f < frames_; ++f) {
      if (in_batch(all[f]) || !free(all[f])) continue;
      if (all[f].unit == nowhere) {
        best = f;
        break;
      }
      if (best == nowhere || all[f].value < all[best].value ||
          (all[f].value == all[best].value && all[f].entered < all[best].entered)) {
        best = f;
      }
    }
    if (best == nowhere) return nowhere;
    if (all[best].unit != nowhere) where_[layer * units_ + all[best].unit] = nowhere;
    where_[layer * units_ + unit] = best;
    all[best] = {.unit = unit, .state = frame_state::empty, .entered = ++entered_};
    if (std::holds_alternative<hot::lru>(rule_)) all[best].value = static_cast<double>(clock_);
    if (std::holds_alternative<hot::fifo>(rule_)) all[best].value = static_cast<double>(entered_);
    return best;
  }
  /// What a frame holds belongs to the batch.
  void join(hot_frame& f) noexcept {
    if (in_batch(f)) return;
    f.batch = batch_;
    ++taken_;
  }

 private:
  hot_rule rule_;
  std::size_t units_ = 0;
  std::size_t frames_ = 0;  // of a layer
  std::size_t taken_ = 0;   // by the batch
  std::uint64_t batch_ = 0;
  std::uint64_t clock_ = 0;         // lookups
  std::uint64_t entered_ = 0;       // units, so far
  std::span<hot_frame> all_;        // [layers][frames]
  std::span<std::uint32_t> where_;  // [layers][units]: frame
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
