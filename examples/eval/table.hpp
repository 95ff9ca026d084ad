#ifndef KVKEEP_EVAL_TABLE_HPP
#define KVKEEP_EVAL_TABLE_HPP

#include "compare.hpp"

#include <string>

namespace kvkeep_eval {

// The report as text for people: two lines of conditions, then one row per policy.
[[nodiscard]] std::string to_table(const comparison& report);

// The report as JSON for programs; a perplexity that does not exist is null.
[[nodiscard]] std::string to_json(const comparison& report);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TABLE_HPP
