// running_top_k: the k largest of scores that come piece by piece, without keeping the others.
#ifndef KVKEEP_CORE_RUNNING_TOP_K_HPP
#define KVKEEP_CORE_RUNNING_TOP_K_HPP

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/top_k.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The k best of numbered scores, offered in the order of their numbers: as top_k chooses, so ties: the lower number, and NaN
/// last. Those that reach the k-th best seen so far are kept until room runs out; then all but the k best go.
class running_top_k {
 public:
  static constexpr std::size_t piece = 16;  // scores offered at once

  /// Takes room for choosing up to `most` of up to `offered`.
  void lay_out(arena& memory, std::size_t most, std::size_t offered) {
    const std::size_t room = (std::min)(2 * (std::max)(most, std::size_t{256}), offered) + 2 * piece;
    keys_ = memory.take<std::uint32_t>(room);
    numbers_ = memory.take<std::uint32_t>(room);
    order_ = memory.take<std::uint64_t>(most);
  }
  /// Begins anew, for the k best, 1 <= k <= most.
  void reset(std::size_t k) noexcept {
    k_ = k;
    count_ = 0;
    kth_ = lowest_key;
    bound_ = lowest_key;
  }
  /// Offers scores[i], number first + i, where bit i % 16 of there[i / 16] is set. scores is [there.size()][piece].
  void offer(std::size_t first, const float* scores, std::span<const std::uint16_t> there) noexcept {
    if (bound_ > 0 && !any_reaches(scores, there.size() * piece)) return;
    for (std::size_t p = 0; p < there.size(); ++p) offer_piece(first + p * piece, scores + p * piece, there[p]);
  }
  /// Leaves the k best, or all that were offered where they are fewer.
  void finish() noexcept {
    if (count_ > k_) shrink();
  }
  /// After finish(): ascending.
  [[nodiscard]] std::span<const std::uint32_t> numbers() const noexcept { return numbers_.first(count_); }
  /// After finish(): puts the best first, the lower number first where they are equal.
  void sort() {
    for (std::size_t i = 0; i < count_; ++i) order_[i] = std::uint64_t{~keys_[i] ^ 0x80000000U} << 32 | numbers_[i];
    std::sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count_));
    for (std::size_t i = 0; i < count_; ++i) numbers_[i] = static_cast<std::uint32_t>(order_[i]);
  }

 private:
  /// Whether any of some scores, or a NaN, reaches the bound, which is above 0: the bits of such floats order them.
  [[nodiscard]] bool any_reaches(const float* scores, std::size_t count) const noexcept {
    vec_int most = splat(lowest_key);
    for (std::size_t i = 0; i < count; i += vec_width) most = larger(load<vec_int>(scores + i), most);
    return at_least(most, splat(bound_)) != 0;
  }
  void offer_piece(std::size_t first, const float* scores, std::uint32_t there) noexcept {
    vec_int lane{};
    for (std::size_t j = 0; j < vec_width; ++j) lane[j] = static_cast<std::int32_t>(j);
    for (std::size_t i = 0; i < piece; i += vec_width) {
      const vec_int keys = score_keys(load(scores + i));
      const std::uint32_t chosen = at_least(keys, splat(bound_)) & there >> i;
      // A wide vector that has some is as likely as one that has none: a branch would often be guessed wrong.
      if (vec_width < 16 && chosen == 0) continue;
      store_chosen(numbers_.data() + count_, splat(static_cast<std::int32_t>(first + i)) + lane, chosen);
      count_ += store_chosen(keys_.data() + count_, keys, chosen);
    }
    if (count_ + 2 * piece > keys_.size()) shrink();
  }
  void shrink() noexcept {
    std::fill_n(keys_.begin() + static_cast<std::ptrdiff_t>(count_), vec_width, static_cast<std::uint32_t>(lowest_key));
    kth_ = rank_bound(keys_.data(), count_, k_, kth_);
    keep_best(keys_.data(), numbers_.data(), count_, k_, kth_);
    count_ = k_;
    bound_ = kth_ + 1;  // who only equals it comes too late
  }

  std::span<std::uint32_t> keys_;     // [room]: order as the scores have
  std::span<std::uint32_t> numbers_;  // [room]
  std::span<std::uint64_t> order_;    // [most]
  std::size_t k_ = 1;
  std::size_t count_ = 0;
  std::int32_t kth_ = lowest_key;    // that k of them reached
  std::int32_t bound_ = lowest_key;  // of what is worth keeping
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
