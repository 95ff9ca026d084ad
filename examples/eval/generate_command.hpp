#ifndef KVKEEP_EVAL_GENERATE_COMMAND_HPP
#define KVKEEP_EVAL_GENERATE_COMMAND_HPP

#include "command_line.hpp"
#include "generate.hpp"

namespace kvkeep_eval {

// `kvkeep-eval generate`: continues a prompt greedily under one policy.
class generate_command final : public subcommand {
 public:
  explicit generate_command(CLI::App& app);

  [[nodiscard]] int run() override;

 private:
  generate_options options_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_GENERATE_COMMAND_HPP
