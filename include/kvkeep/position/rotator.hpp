// rotator: the angles of a cache, ready for use: a table for the tokens of a step, one for short distances, and a memory of
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
#include "kvkeep/position/rope_frequencies.hpp"
#include "kvkeep/position/rotate.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Cosines and sines by position. Not thread-safe: looking up an angle may compute it.
class rotator {
 public:
  static constexpr std::size_t remembered = 64;  // angles outside the tables that are kept, by their last bits
  static constexpr position nowhere = std::numeric_limits<position>::min();

  /// Takes the tables from the arena: `pairs` frequencies, max_step positions, `near` distances (0 .. near - 1).
  void lay_out(arena& memory, std::size_t pairs, std::size_t max_step, std::size_t near) {
    inverse_ = memory.take<double>(pairs);
    step_ = memory.take<double>(max_step * 2 * pairs);
    near_ = memory.take<float>(near * 2 * pairs);
    other_ = memory.take<double>(remembered * 2 * pairs);
    other_at_ = memory.take<position>(remembered);
    pairs_ = pairs;
    near_count_ = near;
  }

  void fill(const rope& r, const rope_frequencies& frequencies) {
    layout_ = r.layout;
    factor_ = r.applied ? 1.0 : frequencies.attention_factor;
    std::copy(frequencies.inverse.begin(), frequencies.inverse.end(), inverse_.begin());
    std::fill(other_at_.begin(), other_at_.end(), nowhere);
    for (std::size_t d = 0; d < near_count_; ++d) {
      const angles a = remember(static_cast<position>(d));
      float* const row = near_.data() + d * 2 * pairs_;
      for (std::size_t j = 0; j < pairs_; ++j) {
        row[j] = static_cast<float>(a.cosine[j]);
        row[pairs_ + j] = static_cast<float>(a.sine[j]);
      }
    }
  }

  /// Prepares the angles of positions first .. first + count - 1.
  void begin_step(position first, std::size_t count) noexcept {
    step_first_ = first;
    step_count_ = count;
    for (std::size_t t = 0; t < count; ++t) {
      const auto [cosine, sine] = split(step_, t);
      fill_angles(first + static_cast<position>(t), inverse_, cosine, sine);
    }
  }

  /// out = row turned to `at`, both [head_dim]; the attention factor is put on.
  void turn(position at, std::span<const float> row, float* out) noexcept {
    const angles a = find(at);
    rotate_row(layout_, a.cosine, a.sine, factor_, row, out);
  }

  /// Puts the attention factor on a row that stays raw.
  void keep_raw(std::span<const float> row, float* out) const noexcept {
    std::copy(row.begin(), row.end(), out);
    if (factor_ == 1.0) return;
    for (std::size_t c = 0; c < 2 * pairs_; ++c) out[c] = static_cast<float>(factor_ * static_cast<double>(row[c]));
  }

  /// Turns the keys of a block, [dim][16], backwards by their distances [16]; rows outside mask become anything.
  void turn_block(const float* keys, const position* distance, std::uint32_t mask, float* out,
                  std::size_t dim) noexcept {
    const std::size_t step = layout_ == rope_layout::half_split ? 1 : 2;
    const std::size_t apart = layout_ == rope_layout::half_split ? pairs_ : 1;
    if (out != keys) std::copy(keys, keys + dim * block_tokens, out);
    for (std::uint32_t left = mask; left != 0; left &= left - 1) {
      const auto r = static_cast<std::size_t>(std::countr_zero(left));
      const position d = distance[r];
      if (d >= 0 && d < static_cast<position>(near_count_)) {
        const float* const row = near_.data() + static_cast<std::size_t>(d) * 2 * pairs_;
        turn_column(out, r, step, apart, row, row + pairs_);
      } else {
        const angles a = find(d);
        turn_column(out, r, step, apart, a.cosine.data(), a.sine.data());
      }
    }
  }

 private:
  struct angles {
    std::span<const double> cosine;  // [pairs]
    std::span<const double> sine;    // [pairs]
  };
  struct writable {
    std::span<double> cosine;  // [pairs]
    std::span<double> sine;    // [pairs]
  };

  template <class T>
  void turn_column(float* out, std::size_t r, std::size_t step, std::size_t apart, const T* cosine,
                   const T* sine) const noexcept {
    for (std::size_t j = 0; j < pairs_; ++j) {
      float& x = out[(j * step) * block_tokens + r];
      float& y = out[(j * step + apart) * block_tokens + r];
      const T turned_x = static_cast<T>(x) * cosine[j] + static_cast<T>(y) * sine[j];
      const T turned_y = static_cast<T>(y) * cosine[j] - static_cast<T>(x) * sine[j];
      x = static_cast<float>(turned_x);
      y = static_cast<float>(turned_y);
    }
  }

  [[nodiscard]] writable split(std::span<double> table, std::size_t row) const noexcept {
    return {table.subspan(row * 2 * pairs_, pairs_), table.subspan((row * 2 + 1) * pairs_, pairs_)};
  }
  [[nodiscard]] angles find(position at) noexcept {
    if (at >= step_first_ && at - step_first_ < static_cast<position>(step_count_)) {
      const auto [cosine, sine] = split(step_, static_cast<std::size_t>(at - step_first_));
      return {cosine, sine};
    }
    return remember(at);
  }
  [[nodiscard]] angles remember(position at) noexcept {
    const auto row = static_cast<std::size_t>(static_cast<std::uint64_t>(at) % remembered);
    const auto [cosine, sine] = split(other_, row);
    if (other_at_[row] != at) {
      fill_angles(at, inverse_, cosine, sine);
      other_at_[row] = at;
    }
    return {cosine, sine};
  }

  std::span<double> inverse_;     // [pairs]
  std::span<double> step_;        // [max_step][2][pairs]: cosines, sines
  std::span<float> near_;         // [near][2][pairs]
  std::span<double> other_;       // [remembered][2][pairs]
  std::span<position> other_at_;  // [remembered]; nowhere: empty
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
