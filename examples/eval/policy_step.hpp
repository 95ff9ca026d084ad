#ifndef KVKEEP_EVAL_POLICY_STEP_HPP
#define KVKEEP_EVAL_POLICY_STEP_HPP

#include "failure.hpp"
#include "llama.hpp"

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace kvkeep_eval {

// What the policy `spec` did wrong, in the library's own words but without its own name in front.
[[nodiscard]] failure policy_failure(const std::string& spec, const kvkeep::error& error);

// A failure if the library reported an error.
void check(const kvkeep::result<void>& result, const std::string& spec);

template <class T>
[[nodiscard]] T value_or_fail(kvkeep::result<T> result, const std::string& spec) {
  if (!result) {
    throw policy_failure(spec, result.error());
  }
  return *std::move(result);
}

// A failure if `policy` keeps every token, but has no room for `tokens`.
void check_room(const kvkeep::any_policy& policy, std::size_t tokens, const std::string& spec);

// A cache of the model's shape and positions, for steps of up to `max_step` tokens that `threads` threads attend.
[[nodiscard]] kvkeep::any_cache make_model_cache(const llama_config& config, const kvkeep::any_policy& policy,
                                                 std::size_t max_step, std::size_t threads, const std::string& spec,
                                                 kvkeep::drop_listener on_drop = {});

// Runs the model over one step of tokens with the cache as its attention; [tokens, hidden].
[[nodiscard]] matrix run_model_step(const llama& model, kvkeep::any_cache& cache, std::span<const token> tokens,
                                    const std::string& spec);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_POLICY_STEP_HPP
