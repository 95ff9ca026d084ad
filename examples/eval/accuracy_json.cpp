#include "accuracy_json.hpp"

#include "binomial.hpp"

namespace kvkeep_eval {

nlohmann::ordered_json to_json_value(const accuracy& of) {
  const interval bounds = wilson_interval(of.hits, of.asked);
  return {
      {"name", of.name},
      {"hits", of.hits},
      {"asked", of.asked},
      {"share", of.asked == 0 ? nlohmann::ordered_json()
                              : nlohmann::ordered_json(static_cast<double>(of.hits) / static_cast<double>(of.asked))},
      {"low", bounds.low},
      {"high", bounds.high},
      {"chance", of.chance ? nlohmann::ordered_json(*of.chance) : nlohmann::ordered_json()}};
}

}  // namespace kvkeep_eval
