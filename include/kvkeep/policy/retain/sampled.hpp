// sampled{count, seed}: a uniformly random sample of the tokens that the rules before it left.
//
// Reservoir sampling with random keys: each token has a random number of its own, and the `count` highest stay. What was
// dropped never comes back, whatever comes later, so a sample of the past can be kept without the past.
// Source: Efraimidis, Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97 (2006), with
// equal weights; the numbers are those of Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#ifndef KVKEEP_POLICY_RETAIN_SAMPLED_HPP
#define KVKEEP_POLICY_RETAIN_SAMPLED_HPP

#include <cstdint>

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The first output of the generator splitmix64 whose state is x: a well mixed number from any other.
[[nodiscard]] constexpr std::uint64_t splitmix64(std::uint64_t x) noexcept {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

}  // namespace detail

/// Keeps a random sample of the tokens that older rules left, the same for all layers and heads. At any time every set of
/// `count` of these tokens, the first of the stream like the last, is equally likely (over seeds), as long as nothing is
/// erased and reserve() takes nothing from the sample: the places it frees go to tokens that come later. Depends on the seed
/// and the stream numbers alone: on no clock, and not on how the stream is cut into steps. Cost: a hash for every token held
/// whenever the rule decides.
struct sampled {
  std::size_t count = 256;  ///< tokens
  std::uint64_t seed = 0;   ///< another seed, another sample

  [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
  /// The upper 53 bits of splitmix64(splitmix64(seed) + number).
  [[nodiscard]] constexpr double rank(const held_token& t) const noexcept {
    const std::uint64_t mixed = detail::splitmix64(detail::splitmix64(seed) + static_cast<std::uint64_t>(t.number));
    return static_cast<double>(mixed >> 11U);
  }
};

KVKEEP_NAMESPACE_END

#endif
