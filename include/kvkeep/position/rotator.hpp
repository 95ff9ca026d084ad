// rotator: the angles of a cache, ready for use: a table for the tokens of a step and one for short distances; angle_memory:
// the last few others.
#ifndef KVKEEP_POSITION_ROTATOR_HPP
#define KVKEEP_POSITION_ROTATOR_HPP

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/position/key_turning.hpp"
#include "kvkeep/position/rope_frequencies.hpp"
#include "kvkeep/position/rotate.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Angles outside the tables that were computed last, by the last bits of their position. One thread at a time.
class angle_memory {
 public:
  static constexpr std::size_t remembered = 64;
  static constexpr position nowhere = std::numeric_limits<position>::min();

  void lay_out(arena& memory, std::size_t pairs) {
    angles_ = memory.take<double>(pairs > 0 ? remembered * 2 * pairs : 0);
    at_ = memory.take<position>(pairs > 0 ? remembered : 0);
    pairs_ = pairs;
  }
  void clear() noexcept { std::fill(at_.begin(), at_.end(), nowhere); }

  /// Cosines and sines of a position, [2][pairs]. Valid until the next call.
  [[nodiscard]] std::span<const double> find(position at, std::span<const double> inverse) noexcept {
    const auto row = static_cast<std::size_t>(static_cast<std::uint64_t>(at) % remembered);
    const std::span<double> found = angles_.subspan(row * 2 * pairs_, 2 * pairs_);
    if (at_[row] != at) {
      fill_angles(at, inverse, found.first(pairs_), found.subspan(pairs_));
      at_[row] = at;
    }
    return found;
  }

 private:
  std::span<double> angles_;  // [remembered][2][pairs]: cosines, sines
  std::span<position> at_;    // [remembered]; nowhere: empty
  std::size_t pairs_ = 0;
};

/// Cosines and sines by position. Threads that look angles up bring an angle_memory each.
class rotator {
 public:
  /// Takes the tables from the arena: `pairs` frequencies, max_step positions, `near` distances (0 .. near - 1).
  void lay_out(arena& memory, std::size_t pairs, std::size_t max_step, std::size_t near) {
    inverse_ = memory.take<double>(pairs);
    step_ = memory.take<double>(max_step * 2 * pairs);
    near_ = memory.take<float>(near * 2 * pairs);
    pairs_ = pairs;
    near_count_ = near;
  }

  void fill(const rope& r, const rope_frequencies& frequencies, angle_memory& memory) {
    layout_ = r.layout;
    factor_ = r.applied ? 1.0 : frequencies.attention_factor;
    std::copy(frequencies.inverse.begin(), frequencies.inverse.end(), inverse_.begin());
    for (std::size_t d = 0; d < near_count_; ++d) {
      const std::span<const double> found = memory.find(static_cast<position>(d), inverse_);
      std::transform(found.begin(), found.end(), near_.begin() + static_cast<std::ptrdiff_t>(d * 2 * pairs_),
                     [](double x) { return static_cast<float>(x); });
    }
  }

  /// Prepares the angles of positions first .. first + count - 1.
  void begin_step(position first, std::size_t count) noexcept {
    step_first_ = first;
    step_count_ = count;
    for (std::size_t t = 0; t < count; ++t) {
      const std::span<double> row = step_.subspan(t * 2 * pairs_, 2 * pairs_);
      fill_angles(first + static_cast<position>(t), inverse_, row.first(pairs_), row.subspan(pairs_));
    }
  }

  /// out = row turned to `at`, both [head_dim]; the attention factor is put on.
  void turn(position at, std::span<const float> row, float* out, angle_memory& memory) const noexcept {
    const bool of_step = at >= step_first_ && at - step_first_ < static_cast<position>(step_count_);
    const std::span<const double> found =
        of_step ? step_.subspan(static_cast<std::size_t>(at - step_first_) * 2 * pairs_, 2 * pairs_)
                : memory.find(at, inverse_);
    rotate_row(layout_, found.first(pairs_), found.subspan(pairs_), factor_, row, out);
  }

  /// Puts the attention factor on a row that stays raw.
  void keep_raw(std::span<const float> row, float* out) const noexcept {
    std::copy(row.begin(), row.end(), out);
    if (factor_ == 1.0) return;
    for (std::size_t c = 0; c < 2 * pairs_; ++c) out[c] = static_cast<float>(factor_ * static_cast<double>(row[c]));
  }

  /// How keys are turned as they are read, by the angles of every block.
  [[nodiscard]] key_turning turning(const float* angles) const noexcept {
    const bool half = layout_ == rope_layout::half_split;
    return {angles, pairs_, half ? std::size_t{1} : std::size_t{2}, half ? pairs_ : std::size_t{1}};
  }
  /// Fills the angles of the rows of a block whose bit of `mask` is set, [pairs][2][16], from their distances [16].
  void fill_block(const position* distance, std::uint32_t mask, float* out, angle_memory& memory) const noexcept {
    for (std::uint32_t left = mask; left != 0; left &= left - 1) {
      const auto r = static_cast<std::size_t>(std::countr_zero(left));
      const position d = distance[r];
      if (d >= 0 && d < static_cast<position>(near_count_)) {
        put_column(near_.data() + static_cast<std::size_t>(d) * 2 * pairs_, r, out);
      } else {
        put_column(memory.find(d, inverse_).data(), r, out);
      }
    }
  }

 private:
  template <class T>
  void put_column(const T* angles, std::size_t r, float* out) const noexcept {
    for (std::size_t j = 0; j < pairs_; ++j) {
      out[(2 * j) * block_tokens + r] = static_cast<float>(angles[j]);
      out[(2 * j + 1) * block_tokens + r] = static_cast<float>(angles[pairs_ + j]);
    }
  }

  std::span<double> inverse_;  // [pairs]
  std::span<double> step_;     // [max_step][2][pairs]: cosines, sines
  std::span<float> near_;      // [near][2][pairs]
  std::size_t pairs_ = 0;
  std::size_t near_count_ = 0;
  position step_first_ = 0;
  std::size_t step_count_ = 0;
  rope_layout layout_ = rope_layout::half_split;
  double factor_ = 1.0;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
