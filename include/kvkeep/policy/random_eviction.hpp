// random_eviction: attention sinks, a window and a random sample of all that lies between: the control of comparisons.
//
// A policy that chooses what to keep by importance must beat this one, which keeps as much and knows nothing.
// Source: the baseline "Random" of Yao, Li, Zhao, "SirLLM: Streaming Infinite Retentive LLM", ACL 2024, arXiv 2405.12528,
// whose code the authors did not release; the window and the drawing by reservoir are kvkeep's.
#ifndef KVKEEP_POLICY_RANDOM_EVICTION_HPP
#define KVKEEP_POLICY_RANDOM_EVICTION_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sampled.hpp"
#include "kvkeep/policy/retain/sinks.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Query i reads the sinks, the newest `window` tokens, itself included, and a uniformly random `count` of those between
/// them, at their distances in the cache, however the stream is cut into steps. By default it keeps as many tokens as
/// streaming_llm.
struct random_eviction {
  std::size_t sinks = 4;     ///< first tokens kept for ever
  std::size_t window = 256;  ///< newest tokens kept, the query included, >= 1
  std::size_t count = 256;   ///< tokens between sinks and window kept
  std::uint64_t seed = 0;    ///< another seed, another sample

  static constexpr std::string_view name = "random";
  static constexpr std::string_view idea =
      "keeps sinks, the newest tokens and a random sample of the rest: a control that knows nothing";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<random_eviction>{"sinks", &random_eviction::sinks, 0, "first tokens kept for ever"},
        token_parameter<random_eviction>{"window", &random_eviction::window, 1,
                                         "newest tokens kept, the query included"},
        token_parameter<random_eviction>{"count", &random_eviction::count, 0, "tokens kept of those between"},
        number_parameter<random_eviction>{"seed", &random_eviction::seed, "another seed, another sample"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{kvkeep::sinks{sinks}, recent{window}, sampled{count, seed}}, read_all{}, cache_distance{},
                  each_token{}};
  }
};

static_assert(policy_like<random_eviction>);

KVKEEP_NAMESPACE_END

#endif
