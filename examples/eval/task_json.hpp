#ifndef KVKEEP_EVAL_TASK_JSON_HPP
#define KVKEEP_EVAL_TASK_JSON_HPP

#include "task_report.hpp"

#include <string>

namespace kvkeep_eval {

// The report as JSON for programs; what does not exist is null. Shares and their 95% intervals are from 0 to 1.
[[nodiscard]] std::string to_json(const task_report& report);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASK_JSON_HPP
