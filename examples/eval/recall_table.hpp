#ifndef KVKEEP_EVAL_RECALL_TABLE_HPP
#define KVKEEP_EVAL_RECALL_TABLE_HPP

#include "recall_report.hpp"

#include <string>

namespace kvkeep_eval {

// What `kvkeep-eval recall` prints: accuracy by policy and length, by depth, and what was retrieved.
[[nodiscard]] std::string to_table(const recall_report& report);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECALL_TABLE_HPP
