// interval_eviction: attention sinks, a window and evenly spaced tokens of all that lies between: a control of comparisons.
//
// Source: the baseline "Interval" of Yao, Li, Zhao, "SirLLM: Streaming Infinite Retentive LLM", ACL 2024, arXiv 2405.12528,
// whose code the authors did not release. Theirs takes every n-th token with n = history / cache, which no cache can do by
// eviction (retain/evenly_spaced.hpp); the doubling spacing and the window are kvkeep's.
#ifndef KVKEEP_POLICY_INTERVAL_EVICTION_HPP
#define KVKEEP_POLICY_INTERVAL_EVICTION_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/evenly_spaced.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sinks.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Query i reads the sinks, the newest `window` tokens, itself included, and `count` evenly spaced ones of those between
/// them, at their distances in the cache, however the stream is cut into steps. By default it keeps as many tokens as
/// streaming_llm.
struct interval_eviction {
  std::size_t sinks = 4;     ///< first tokens kept for ever
  std::size_t window = 256;  ///< newest tokens kept, the query included, >= 1
  std::size_t count = 256;   ///< tokens between sinks and window kept

  static constexpr std::string_view name = "interval";
  static constexpr std::string_view idea =
      "keeps sinks, the newest tokens and evenly spaced ones of the rest: a control that knows nothing";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<interval_eviction>{"sinks", &interval_eviction::sinks, 0, "first tokens kept for ever"},
        token_parameter<interval_eviction>{"window", &interval_eviction::window, 1,
                                           "newest tokens kept, the query included"},
        token_parameter<interval_eviction>{"count", &interval_eviction::count, 0, "tokens kept of those between"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{kvkeep::sinks{sinks}, recent{window}, evenly_spaced{count}}, read_all{}, cache_distance{},
                  each_token{}};
  }
};

static_assert(policy_like<interval_eviction>);

KVKEEP_NAMESPACE_END

#endif
