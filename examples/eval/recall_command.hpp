#ifndef KVKEEP_EVAL_RECALL_COMMAND_HPP
#define KVKEEP_EVAL_RECALL_COMMAND_HPP

#include "command_line.hpp"
#include "recall.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace kvkeep_eval {

// `kvkeep-eval recall`: its arguments, and what it does with them.
class recall_command final : public subcommand {
 public:
  explicit recall_command(CLI::App& app);

  [[nodiscard]] int run() override;

 private:
  void add_output_options();
  [[nodiscard]] recall_report run_with_progress() const;

  recall_options options_;
  std::string policies_;  // one string, separated by semicolons
  std::vector<std::string> kinds_;
  std::filesystem::path json_;
  std::filesystem::path plot_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECALL_COMMAND_HPP
