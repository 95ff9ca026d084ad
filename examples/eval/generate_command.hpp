#ifndef KVKEEP_EVAL_GENERATE_COMMAND_HPP
#define KVKEEP_EVAL_GENERATE_COMMAND_HPP

#include "generate.hpp"

#include <CLI/CLI.hpp>

namespace kvkeep_eval {

// `kvkeep-eval generate`: continues a prompt greedily under one policy.
class generate_command {
 public:
  // Adds the subcommand, which refers to this object.
  explicit generate_command(CLI::App& app);
  generate_command(const generate_command&) = delete;
  generate_command(generate_command&&) = delete;
  generate_command& operator=(const generate_command&) = delete;
  generate_command& operator=(generate_command&&) = delete;
  ~generate_command() = default;

  [[nodiscard]] bool asked() const { return command_->parsed(); }
  // Does it; the signal that cut it short, or 0.
  [[nodiscard]] int run() const;

 private:
  const CLI::App* command_;
  generate_options options_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_GENERATE_COMMAND_HPP
