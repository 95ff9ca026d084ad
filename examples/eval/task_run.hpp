#ifndef KVKEEP_EVAL_TASK_RUN_HPP
#define KVKEEP_EVAL_TASK_RUN_HPP

#include "choice.hpp"
#include "llama.hpp"
#include "task_report.hpp"
#include "task_turn.hpp"
#include "tasks.hpp"

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace kvkeep_eval {

// The turns that one cache sees.
using conversation = std::vector<task_turn>;

// One of the policies that take the task.
struct task_entrant {
  std::string spec;
  kvkeep::any_policy policy;
};

// What a run is given besides the policy: the dialogs, and whom to tell.
struct task_input {
  const llama& model;
  const std::vector<conversation>& dialogs;
  token begin_of_stream = 0;
  std::size_t longest_turn = 0;  // tokens
  choice_rule rule = choice_rule::mean;
  std::function<void(std::size_t)> report;  // after every turn, with the turns taken
  std::function<bool()> stop;               // true: finish now
};

// Takes every dialog on an empty cache under the policy; one that draws at random draws anew in each.
[[nodiscard]] task_result run_task(const task_input& input, const task_entrant& entrant, task_name task);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASK_RUN_HPP
