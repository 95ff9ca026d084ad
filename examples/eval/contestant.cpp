#include "contestant.hpp"

#include "policy_step.hpp"

namespace kvkeep_eval {

contestant parse_contestant(const std::string& spec, std::size_t tokens) {
  if (spec == recompute::name || spec.starts_with(std::string(recompute::name) + ":")) {
    return {spec, value_or_fail(kvkeep::try_parse_preset<recompute>(spec), spec)};
  }
  return {spec, value_or_fail(kvkeep::try_parse_policy(spec, {.max_tokens = tokens}), spec)};
}

}  // namespace kvkeep_eval
