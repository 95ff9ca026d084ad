#ifndef KVKEEP_EVAL_REPORT_JSON_HPP
#define KVKEEP_EVAL_REPORT_JSON_HPP

#include "report.hpp"

#include <string>

namespace kvkeep_eval {

// The report as JSON for programs; what does not exist is null.
[[nodiscard]] std::string to_json(const comparison& report);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_REPORT_JSON_HPP
