#ifndef KVKEEP_EVAL_POLICIES_COMMAND_HPP
#define KVKEEP_EVAL_POLICIES_COMMAND_HPP

#include <CLI/CLI.hpp>

#include <string>

namespace kvkeep_eval {

// What a spec may say: every policy with its parameters, what they allow and what they are otherwise.
[[nodiscard]] std::string describe_policies();

// `kvkeep-eval policies`, which prints that.
class policies_command {
 public:
  explicit policies_command(CLI::App& app)
      : command_(app.add_subcommand("policies", "Lists the policies and their parameters")) {}

  [[nodiscard]] bool asked() const { return command_->parsed(); }
  // Does it; the signal that cut it short, or 0.
  [[nodiscard]] int run() const;

 private:
  const CLI::App* command_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_POLICIES_COMMAND_HPP
