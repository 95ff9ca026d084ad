#include "model_stream.hpp"

#include "failure.hpp"

#include <cmath>
#include <utility>

namespace kvkeep_eval {

model_stream::model_stream(const llama& model, const kvkeep::any_policy& policy, std::size_t chunk, std::string spec,
                           const kvkeep::unit_tiers& tiers)
    : model_(model),
      spec_(std::move(spec)),
      longest_step_(tokens_at_once(policy, chunk)),
      cache_(make_model_cache(model.config(), policy, chunk, model.threads(), spec_, {}, tiers)),
      surprisals_(model) {}

void model_stream::read(std::span<const token> tokens) {
  states_ =
      run_model_step(model_, cache_, tokens, spec_, [&](const matrix& made) { return surprisals_.next(tokens, made); });
}

token model_stream::most_likely() {
  model_.logits(states_, static_cast<std::size_t>(states_.rows()) - 1, 1, logits_);
  Eigen::Index best = 0;
  if (!std::isfinite(logits_.row(0).maxCoeff(&best)) || logits_.hasNaN()) {
    throw failure("the model's logits are not finite");
  }
  return static_cast<token>(best);
}

}  // namespace kvkeep_eval
