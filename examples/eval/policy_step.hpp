#ifndef KVKEEP_EVAL_POLICY_STEP_HPP
#define KVKEEP_EVAL_POLICY_STEP_HPP

#include "failure.hpp"
#include "llama.hpp"

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

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

// A cache of the model's shape and positions, for steps of up to `max_step` tokens that `threads` threads attend; `tiers`:
// where its memory units lie.
[[nodiscard]] kvkeep::any_cache make_model_cache(const llama_config& config, const kvkeep::any_policy& policy,
                                                 std::size_t max_step, std::size_t threads, const std::string& spec,
                                                 kvkeep::drop_listener on_drop = {},
                                                 const kvkeep::unit_tiers& tiers = {});

// The tokens that a layer and kv head holds: the mean of all, rounded up.
[[nodiscard]] std::size_t kept_tokens(const kvkeep::any_cache& cache);

// The positions that some layer and kv head holds, oldest first.
[[nodiscard]] std::vector<kvkeep::position> held_anywhere(const kvkeep::any_cache& cache);

// The policy, with a seed of its own for the stream of this number if it draws at random.
[[nodiscard]] kvkeep::any_policy reseeded(const kvkeep::any_policy& policy, std::uint64_t number);

// The tokens of the longest step that a policy can take at any time, of `chunk` that are offered: a rule that ranks by
// evidence decides token by token.
[[nodiscard]] std::size_t tokens_at_once(const kvkeep::any_policy& policy, std::size_t chunk);

// What a step's tokens are worth, [tokens], from the states after the last norm, [tokens, hidden]. Called only where the
// policy asks.
using tell_function = std::function<std::span<const float>(const matrix& states)>;

// Runs the model over one step of tokens with the cache as its attention; [tokens, hidden]. `tell` is needed where the
// policy asks for surprisals.
[[nodiscard]] matrix run_model_step(const llama& model, kvkeep::any_cache& cache, std::span<const token> tokens,
                                    const std::string& spec, const tell_function& tell = {});

// Runs the model over each of several continuations of what the cache holds, which is afterwards as it was: the states of
// one after the other, [tokens of all, hidden]. One pass over the weights for all of them.
[[nodiscard]] matrix run_alternatives(const llama& model, kvkeep::any_cache& cache,
                                      std::span<const std::vector<token>> alternatives, const std::string& spec);

// The surprisals of a stream of tokens that one model reads, step by step. Refers to the model.
class stream_surprisals {
 public:
  explicit stream_surprisals(const llama& model);

  // Those of the next tokens, [tokens], from their states, [tokens, hidden]. Valid until the next call.
  [[nodiscard]] std::span<const float> next(std::span<const token> tokens, const matrix& states);

 private:
  const llama& model_;
  kvkeep::surprisal_stream stream_;
  matrix logits_;              // [tokens, vocabulary]
  std::vector<float> values_;  // [tokens]
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_POLICY_STEP_HPP
