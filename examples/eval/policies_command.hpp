#ifndef KVKEEP_EVAL_POLICIES_COMMAND_HPP
#define KVKEEP_EVAL_POLICIES_COMMAND_HPP

#include "command_line.hpp"

#include <string>

namespace kvkeep_eval {

// What a spec may say: every policy with its parameters, what they allow and what they are otherwise.
[[nodiscard]] std::string describe_policies();

// `kvkeep-eval policies`, which prints that.
class policies_command final : public subcommand {
 public:
  explicit policies_command(CLI::App& app) : subcommand(app, "policies", "Lists the policies and their parameters") {}

  [[nodiscard]] int run() override;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_POLICIES_COMMAND_HPP
