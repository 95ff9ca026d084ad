#ifndef KVKEEP_EVAL_TASKS_COMMAND_HPP
#define KVKEEP_EVAL_TASKS_COMMAND_HPP

#include "command_line.hpp"
#include "tasks.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace kvkeep_eval {

// `kvkeep-eval tasks`: its arguments, and what it does with them.
class tasks_command final : public subcommand {
 public:
  explicit tasks_command(CLI::App& app);

  [[nodiscard]] int run() override;

 private:
  void add_data_options();
  // A CLI error if an argument is missing that the task needs, or given that it has no use for.
  void check_task_arguments();
  // The files that --write makes.
  [[nodiscard]] std::vector<task_file> data_files() const;

  task_options options_;
  std::string task_;
  std::string rule_{text_of(choice_rule::mean)};
  std::string goods_{text_of(goods_kind::groceries)};
  std::string policies_;  // one string, separated by semicolons
  std::filesystem::path json_;
  std::filesystem::path data_directory_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASKS_COMMAND_HPP
