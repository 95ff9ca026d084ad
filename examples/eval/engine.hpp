#ifndef KVKEEP_EVAL_ENGINE_HPP
#define KVKEEP_EVAL_ENGINE_HPP

#include "failure.hpp"
#include "llama.hpp"
#include "matrix.hpp"
#include "tokenizer.hpp"

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace kvkeep_eval {

// What a policy did wrong, in the library's own words but without its own name in front.
[[nodiscard]] failure policy_failure(const std::string& spec, const kvkeep::error& error);

inline void check(const kvkeep::result<void>& result, const std::string& spec) {
  if (!result) {
    throw policy_failure(spec, result.error());
  }
}

template <class T>
[[nodiscard]] T value_or_fail(kvkeep::result<T> result, const std::string& spec) {
  if (!result) {
    throw policy_failure(spec, result.error());
  }
  return *std::move(result);
}

// A cache for a model of this config under `policy`, for steps of up to `max_step` tokens.
[[nodiscard]] kvkeep::any_cache make_cache(const llama_config& config, const kvkeep::any_policy& policy,
                                           std::size_t max_step, const std::string& spec,
                                           kvkeep::drop_listener on_drop = {});

// Runs the model over one step of tokens with the cache as its attention; the states after its last norm,
// [tokens, hidden].
[[nodiscard]] matrix run_step(const llama& model, kvkeep::any_cache& cache, std::span<const token> tokens,
                              const std::string& spec);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_ENGINE_HPP
