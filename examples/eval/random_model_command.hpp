#ifndef KVKEEP_EVAL_RANDOM_MODEL_COMMAND_HPP
#define KVKEEP_EVAL_RANDOM_MODEL_COMMAND_HPP

#include "command_line.hpp"
#include "random_model.hpp"

namespace kvkeep_eval {

// `kvkeep-eval random-model`: writes a model of a chosen shape with random weights.
class random_model_command final : public subcommand {
 public:
  explicit random_model_command(CLI::App& app);

  [[nodiscard]] int run() override;

 private:
  random_model_options options_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RANDOM_MODEL_COMMAND_HPP
