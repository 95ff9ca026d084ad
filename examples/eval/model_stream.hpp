#ifndef KVKEEP_EVAL_MODEL_STREAM_HPP
#define KVKEEP_EVAL_MODEL_STREAM_HPP

#include "llama.hpp"
#include "policy_step.hpp"

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <span>
#include <string>

namespace kvkeep_eval {

// A stream of tokens that a model reads under one policy, step by step. Refers to the model.
class model_stream {
 public:
  // Steps have up to `chunk` tokens, fewer where the policy asks for it.
  model_stream(const llama& model, const kvkeep::any_policy& policy, std::size_t chunk, std::string spec,
               const kvkeep::unit_tiers& tiers = {});

  // The most tokens that `read` takes.
  [[nodiscard]] std::size_t longest_step() const noexcept { return longest_step_; }
  // Reads one step.
  void read(std::span<const token> tokens);
  // The token that is most likely to come next; something must have been read. A failure if logits are not finite.
  [[nodiscard]] token most_likely();

  [[nodiscard]] const kvkeep::any_cache& cache() const noexcept { return cache_; }

 private:
  const llama& model_;
  std::string spec_;
  std::size_t longest_step_;
  kvkeep::any_cache cache_;
  stream_surprisals surprisals_;
  matrix states_;  // [tokens of the last step, hidden]
  matrix logits_;  // [1, vocabulary]
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_MODEL_STREAM_HPP
