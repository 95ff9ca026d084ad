#ifndef KVKEEP_EVAL_TABLE_HPP
#define KVKEEP_EVAL_TABLE_HPP

#include "report.hpp"

#include <string>

namespace kvkeep_eval {

// The report as text for people: two lines of conditions, one row per policy, then what the columns cannot say.
[[nodiscard]] std::string to_table(const comparison& report);

// The table for programs: a line of names, then a line per policy; what does not exist is empty.
[[nodiscard]] std::string to_csv(const comparison& report);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TABLE_HPP
