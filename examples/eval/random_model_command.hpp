#ifndef KVKEEP_EVAL_RANDOM_MODEL_COMMAND_HPP
#define KVKEEP_EVAL_RANDOM_MODEL_COMMAND_HPP

#include "random_model.hpp"

#include <CLI/CLI.hpp>

namespace kvkeep_eval {

// `kvkeep-eval random-model`: writes a model of a chosen shape with random weights.
class random_model_command {
 public:
  // Adds the subcommand, which refers to this object.
  explicit random_model_command(CLI::App& app);
  random_model_command(const random_model_command&) = delete;
  random_model_command(random_model_command&&) = delete;
  random_model_command& operator=(const random_model_command&) = delete;
  random_model_command& operator=(random_model_command&&) = delete;
  ~random_model_command() = default;

  [[nodiscard]] bool asked() const { return command_->parsed(); }
  // Does it; the signal that cut it short, or 0.
  [[nodiscard]] int run() const;

 private:
  const CLI::App* command_;
  random_model_options options_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RANDOM_MODEL_COMMAND_HPP
