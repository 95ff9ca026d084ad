#ifndef KVKEEP_EVAL_RECALL_JSON_HPP
#define KVKEEP_EVAL_RECALL_JSON_HPP

#include "recall_report.hpp"

#include <string>

namespace kvkeep_eval {

// The whole report as JSON: every policy, length, depth and kind of fact.
[[nodiscard]] std::string to_json(const recall_report& report);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECALL_JSON_HPP
