#ifndef KVKEEP_EVAL_TASK_TABLE_HPP
#define KVKEEP_EVAL_TASK_TABLE_HPP

#include "task_report.hpp"

#include <string>

namespace kvkeep_eval {

// The report as text for people: two lines of conditions, a row a policy, what became of the facts, notes.
[[nodiscard]] std::string to_table(const task_report& report);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASK_TABLE_HPP
