// top_k: the indices of the k largest of n scores, exactly.
//
//   std::vector<std::uint32_t> best(k), scratch(kvkeep::top_k_scratch(n));
//   for (auto i : kvkeep::top_k(scores, k, best, scratch)) ...   // ascending
//
// For rules that choose by score: which blocks a query reads, which tokens stay.
//
// Method: a sample of the scores gives a bound that a little more than k of them should reach; one pass collects those that
// do; bisection finds the k-th largest among them. Every pass is vectorised and takes no branch that depends on the scores. A
// sample that misleads costs time, never exactness: O(n) in any case, as at most 32 passes halve the keys there are.
#ifndef KVKEEP_CORE_TOP_K_HPP
#define KVKEEP_CORE_TOP_K_HPP

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "kvkeep/core/result.hpp"
#include "kvkeep/detail/simd.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Elements of scratch that top_k needs for n scores, whatever k is. It touches few of them where k is small.
[[nodiscard]] constexpr std::size_t top_k_scratch(std::size_t n) noexcept { return 2 * (n + 32); }

namespace detail {

// Scores are compared as integers, their keys, in the same order: equal where scores are equal, NaN below all others. So the
// order is total, and compiler flags that ignore NaN or denormals do not change it.

inline constexpr std::int32_t lowest_key = std::numeric_limits<std::int32_t>::min();

[[nodiscard]] inline vec_int score_keys(vec scores) noexcept {
  const vec_int magnitude = magnitude_bits(scores);
  const vec_int negative = std::bit_cast<vec_int>(scores) >> 31;  // all bits or none
  const vec_int nan = magnitude > splat(infinity_bits);
  return (((magnitude ^ negative) - negative) & ~nan) | (nan & splat(lowest_key));
}

/// How many keys are at least `bound`, which is not the lowest key. Behind `count` keys stand lowest keys, a vector's worth.
[[nodiscard]] inline std::size_t count_reaching(const std::uint32_t* keys, std::size_t count,
                                                std::int32_t bound) noexcept {
  vec_int reaching{};
  for (std::size_t i = 0; i < count; i += vec_width) reaching -= load<vec_int>(keys + i) >= splat(bound);
  std::size_t total = 0;
  for (std::size_t i = 0; i < vec_width; ++i) total += static_cast<std::size_t>(reaching[i]);
  return total;
}

/// The largest of some keys, as count_reaching wants them.
[[nodiscard]] inline std::int32_t largest_key(const std::uint32_t* keys, std::size_t count) noexcept {
  vec_int most = splat(lowest_key);
  for (std::size_t i = 0; i < count; i += vec_width) most = larger(load<vec_int>(keys + i), most);
  return largest(most);
}

/// A bound that at least `rank` of some keys reach, and above which there are fewer than `rank` or just as many. `least` is
/// known to be reached by so many.
[[nodiscard]] inline std::int32_t rank_bound(const std::uint32_t* keys, std::size_t count, std::size_t rank,
                                             std::int32_t least) noexcept {
  std::int64_t reached = least;
  std::int64_t missed = std::int64_t{largest_key(keys, count)} + 1;
  while (missed - reached > 1) {
    const std::int64_t middle = reached + (missed - reached) / 2;
    const std::size_t reaching = count_reaching(keys, count, static_cast<std::int32_t>(middle));
    (reaching >= rank ? reached : missed) = middle;
    if (reaching == rank) break;
  }
  return static_cast<std::int32_t>(reached);
}

/// A key that probably at least k scores reach, and not many more. `keys` is room for the sample.
[[nodiscard]] inline std::int32_t sampled_bound(std::span<const float> scores, std::size_t k,
                                                std::uint32_t* keys) noexcept {
  constexpr std::size_t most = 1024;
  const std::size_t sample = (std::min)(most, scores.size() / 16 / vec_width * vec_width);
  if (sample == 0) return lowest_key;
  // Of the sampled scores about `expected` are among the k largest; four standard deviations more make it a safe bound.
  const double expected = static_cast<double>(sample) * static_cast<double>(k) / static_cast<double>(scores.size());
  const auto rank = static_cast<std::size_t>(expected + 4.0 * std::sqrt(expected) + 4.0);
  if (rank >= sample) return lowest_key;
  // An odd stride meets every row of blocks whose size is a power of two.
  const std::size_t stride = (scores.size() / sample - 1) | 1U;
  for (std::size_t i = 0; i < sample; i += vec_width) {
    float lanes[vec_width];
    for (std::size_t j = 0; j < vec_width; ++j) lanes[j] = scores[(i + j) * stride];
    const vec_int mine = score_keys(load(lanes));
    std::memcpy(keys + i, &mine, sizeof mine);
  }
  return rank_bound(keys, sample, rank, lowest_key);
}

/// Writes the keys that reach `bound`, and their indices, in order, lowest keys behind them; returns how many.
[[nodiscard]] inline std::size_t collect(std::span<const float> scores, std::int32_t bound, std::uint32_t* keys,
                                         std::uint32_t* indices) noexcept {
  std::size_t count = 0;
  vec_int lane{};
  for (std::size_t j = 0; j < vec_width; ++j) lane[j] = static_cast<std::int32_t>(j);
  const auto take = [&](std::size_t first, vec some, std::uint32_t valid) {
    const vec_int mine = score_keys(some);
    const std::uint32_t chosen = at_least(mine, splat(bound)) & valid;
    // In a wide vector there is mostly one: a branch would often be guessed wrong.
    if (vec_width >= 16 || chosen != 0) {
      store_chosen(indices + count, splat(static_cast<std::int32_t>(first)) + lane, chosen);
      count += store_chosen(keys + count, mine, chosen);
    }
  };
  const std::size_t whole = scores.size() / vec_width * vec_width;
  for (std::size_t i = 0; i < whole; i += vec_width) take(i, load(scores.data() + i), ~0U);
  if (const std::size_t rest = scores.size() - whole; rest > 0) {
    float lanes[vec_width] = {};
    std::copy_n(scores.data() + whole, rest, lanes);
    take(whole, load(lanes), (1U << rest) - 1U);
  }
  std::fill_n(keys + count, vec_width, static_cast<std::uint32_t>(lowest_key));
  return count;
}

/// Moves the k best of some keys, as rank_bound wants them, and their numbers to the front, in order. `bound` is the rank_bound of k.
inline void keep_best(std::uint32_t* keys, std::uint32_t* numbers, std::size_t count, std::size_t k,
                      std::int32_t bound) noexcept {
  std::size_t ties = k - count_reaching(keys, count, bound + 1);  // to be taken of those with the key `bound`
  for (std::size_t i = 0, taken = 0; taken < k; i += vec_width) {
    const vec_int key = load<vec_int>(keys + i);
    const std::uint32_t above = at_least(key, splat(bound + 1));
    std::uint32_t tied = ties == 0 ? 0 : at_least(key, splat(bound)) & ~above;
    if (tied != 0) {
      while (static_cast<std::size_t>(std::popcount(tied)) > ties) tied ^= std::bit_floor(tied);
      ties -= static_cast<std::size_t>(std::popcount(tied));
    }
    store_chosen(numbers + taken, load<vec_int>(numbers + i), above | tied);
    taken += store_chosen(keys + taken, key, above | tied);
  }
}

/// top_k for 1 <= k < n; scratch and out are large enough.
inline void choose_top_k(std::span<const float> scores, std::size_t k, std::uint32_t* out,
                         std::uint32_t* scratch) noexcept {
  std::uint32_t* const keys = scratch;
  std::uint32_t* const indices = scratch + scores.size() + 32;
  std::int32_t bound = sampled_bound(scores, k, keys);
  std::size_t count = collect(scores, bound, keys, indices);
  if (count < k) {  // the sample misled
    bound = lowest_key;
    count = collect(scores, bound, keys, indices);
  }
  keep_best(keys, indices, count, k, rank_bound(keys, count, k, bound));
  std::copy_n(indices, k, out);
}

}  // namespace detail

/// Writes the indices of the min(k, n) largest of n scores to `out`, ascending, and returns the part of `out` they fill. Of
/// equal scores the lower index wins; -0 equals 0; NaN is below all other scores, so it is chosen only where nothing else is
/// left. O(n), no allocation. Errors: `out` or `scratch` too small; more than 2^31 scores.
[[nodiscard]] inline result<std::span<std::uint32_t>> try_top_k(std::span<const float> scores, std::size_t k,
                                                                std::span<std::uint32_t> out,
                                                                std::span<std::uint32_t> scratch) {
  const std::size_t n = scores.size();
  const std::size_t count = (std::min)(k, n);
  if (n > std::size_t{1} << 31) {
    return detail::bad_argument("scores", fmt::format("{} scores", n), "0 .. 2147483648 scores");
  }
  if (out.size() < count) {
    return detail::bad_argument("out", fmt::format("{} elements", out.size()),
                                fmt::format(">= min(k, n) = {} elements", count));
  }
  if (scratch.size() < top_k_scratch(n)) {
    return detail::bad_argument("scratch", fmt::format("{} elements", scratch.size()),
                                fmt::format(">= top_k_scratch({}) = {} elements", n, top_k_scratch(n)));
  }
  if (count == n) {
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::uint32_t>(i);
  } else if (count > 0) {
    detail::choose_top_k(scores, count, out.data(), scratch.data());
  }
  return out.first(count);
}

#if KVKEEP_EXCEPTIONS
inline std::span<std::uint32_t> top_k(std::span<const float> scores, std::size_t k, std::span<std::uint32_t> out,
                                      std::span<std::uint32_t> scratch) {
  return detail::unwrap(try_top_k(scores, k, out, scratch));
}
#endif

KVKEEP_NAMESPACE_END

#endif
