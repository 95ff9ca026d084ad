#include "policies_command.hpp"

#include "contestant.hpp"

#include <kvkeep/kvkeep.hpp>

#include <fmt/format.h>

#include <vector>

namespace kvkeep_eval {

std::string describe_policies() {
  std::vector<kvkeep::policy_spec> all = kvkeep::policy_specs();
  all.push_back(kvkeep::describe_preset<recompute>());
  std::string out;
  for (const kvkeep::policy_spec& policy : all) {
    out += fmt::format("{}: {}\n", policy.name, policy.idea);
    for (const kvkeep::parameter_spec& parameter : policy.parameters) {
      out +=
          fmt::format("    {}={}  {} ({})\n", parameter.name, parameter.fallback, parameter.meaning, parameter.allowed);
    }
  }
  return out;
}

int policies_command::run() {
  fmt::print("{}", describe_policies());
  return 0;
}

}  // namespace kvkeep_eval
