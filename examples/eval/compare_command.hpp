#ifndef KVKEEP_EVAL_COMPARE_COMMAND_HPP
#define KVKEEP_EVAL_COMPARE_COMMAND_HPP

#include "command_line.hpp"
#include "compare.hpp"

#include <filesystem>
#include <string>

namespace kvkeep_eval {

// `kvkeep-eval compare`: its arguments, and what it does with them.
class compare_command final : public subcommand {
 public:
  explicit compare_command(CLI::App& app);

  [[nodiscard]] int run() override;

 private:
  // A failure if two outputs are one file, or an output is an input.
  void refuse_lost_files() const;
  [[nodiscard]] comparison run_with_progress() const;

  compare_options options_;
  std::string policies_;  // one string, separated by semicolons
  std::size_t recompute_every_ = default_recompute_every;
  const CLI::Option* recompute_option_ = nullptr;
  std::filesystem::path json_;
  std::filesystem::path csv_;
  std::filesystem::path plot_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_COMPARE_COMMAND_HPP
