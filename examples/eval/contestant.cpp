#include "contestant.hpp"

#include "failure.hpp"
#include "policy_step.hpp"

#include <fmt/format.h>

#include <utility>

namespace kvkeep_eval {

contestant parse_contestant(const std::string& spec, std::size_t tokens) {
  if (spec == recompute::name || spec.starts_with(std::string(recompute::name) + ":")) {
    return {spec, value_or_fail(kvkeep::try_parse_preset<recompute>(spec), spec)};
  }
  auto policy = kvkeep::try_parse_policy(spec, {.max_tokens = tokens});
  if (!policy && policy.error().argument() == "policy") {  // the library lists what it knows
    throw failure(fmt::format("{}, {}", policy_failure(spec, policy.error()).what(), recompute::name));
  }
  return {spec, value_or_fail(std::move(policy), spec)};
}

kvkeep::any_policy parse_kv_policy(const std::string& spec, std::size_t tokens) {
  contestant parsed = parse_contestant(spec, tokens);
  if (parsed.is_oracle()) {
    throw failure(fmt::format("policy {}: is no KV policy but an oracle of `compare`", spec));
  }
  return std::get<kvkeep::any_policy>(std::move(parsed.what));
}

}  // namespace kvkeep_eval
