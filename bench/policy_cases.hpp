// policy_cases: the policies that are measured, and how a stream brings their caches into the state in which they work.
//
// A case is a type with
//   name                     as rows are named
//   using partner            the case that it is compared with, round by round; itself: none
//   policy(size)             whose last query reads size.tokens keys
//   stream(size)             tokens before the step that is timed
//   reserves                 whether reserve() drops what the policy would drop anyway: a long stream is then cheap
//   evicts                   whether every token that comes makes another one leave
//   scattered                whether neighbours in a block are to be at unrelated distances, which is then verified
#ifndef KVKEEP_BENCH_POLICY_CASES_HPP
#define KVKEEP_BENCH_POLICY_CASES_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kvkeep/kvkeep.hpp"
#include "problem.hpp"

namespace kvkeep_bench {

/// Every token at its true distance.
struct dense_case {
  static constexpr std::string_view name = "dense";
  using partner = dense_case;
  static constexpr bool reserves = false;
  static constexpr bool evicts = false;
  static constexpr bool scattered = false;
  static constexpr std::size_t room = 512;  // for steps that are committed
  [[nodiscard]] static auto policy(const problem& size) { return kvkeep::dense{.max_tokens = size.tokens + room}; }
  [[nodiscard]] static std::size_t stream(const problem& size) { return size.tokens - size.queries; }
};

/// Four sinks and a window, after a stream of three times their number: two turned queries.
struct streaming_llm_case {
  static constexpr std::string_view name = "streaming_llm";
  using partner = dense_case;
  static constexpr bool reserves = true;
  static constexpr bool evicts = true;
  static constexpr bool scattered = false;
  [[nodiscard]] static auto policy(const problem& size) {
    return kvkeep::streaming_llm{.sinks = 4, .window = size.tokens - 4};
  }
  [[nodiscard]] static std::size_t stream(const problem& size) { return 3 * size.tokens; }
};

/// Seven keys of eight at one constant distance, stored raw.
struct constant_case {
  static constexpr std::string_view name = "constant";
  using partner = dense_case;
  static constexpr bool reserves = true;
  static constexpr bool evicts = true;
  static constexpr bool scattered = false;
  [[nodiscard]] static auto policy(const problem& size) {
    return kvkeep::lm_infinite{.sinks = size.tokens - size.tokens / 8, .window = size.tokens / 8};
  }
  [[nodiscard]] static std::size_t stream(const problem& size) { return size.tokens + size.tokens / 4; }
};

/// A retain rule that drops any token as likely as any other, whenever it decides.
struct shuffled {
  std::size_t count = 256;  ///< tokens

  [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
  [[nodiscard]] constexpr double rank(const kvkeep::held_token& t) const noexcept {
    const std::uint64_t place = kvkeep::detail::splitmix64(t.index);
    return static_cast<double>(kvkeep::detail::splitmix64(place + static_cast<std::uint64_t>(t.number)) >> 11U);
  }
};

/// Distances in a cache whose slots were used ten times over, each by a token that has nothing to do with its neighbours.
struct scattered_case {
  static constexpr std::string_view name = "scattered";
  using partner = dense_case;
  static constexpr bool reserves = false;
  static constexpr bool evicts = true;
  static constexpr bool scattered = true;
  [[nodiscard]] static auto policy(const problem& size) {
    const std::size_t held = size.tokens - size.queries;
    const std::size_t newest = held / 8;
    return kvkeep::policy{kvkeep::keep{kvkeep::sinks{4}, kvkeep::recent{newest}, shuffled{held - newest - 4}},
                          kvkeep::read_all{}, kvkeep::cache_distance{}, kvkeep::after_step{}};
  }
  [[nodiscard]] static std::size_t stream(const problem& size) { return 11 * size.tokens; }
};

/// Sinks, a window, and three quarters of the cache for what surprised most, by random surprisals.
struct sir_llm_case {
  static constexpr std::string_view name = "sir_llm";
  using partner = dense_case;
  static constexpr bool reserves = true;
  static constexpr bool evicts = true;
  static constexpr bool scattered = false;
  [[nodiscard]] static auto policy(const problem& size) {
    const std::size_t newest = size.tokens / 4;
    return kvkeep::sir_llm{.sinks = 4, .window = newest, .count = size.tokens - newest - 4};
  }
  [[nodiscard]] static std::size_t stream(const problem& size) { return 3 * size.tokens; }
};

template <class... Cases>
struct case_list {
  /// Calls f<Case>() for each.
  template <class F>
  static void each(const F& f) {
    (f.template operator()<Cases>(), ...);
  }
};

/// A line a policy.
using policy_cases = case_list<  //
    dense_case,                  //
    streaming_llm_case,          //
    constant_case,               //
    scattered_case,              //
    sir_llm_case>;

}  // namespace kvkeep_bench

#endif
