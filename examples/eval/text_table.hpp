#ifndef KVKEEP_EVAL_TEXT_TABLE_HPP
#define KVKEEP_EVAL_TEXT_TABLE_HPP

#include <cstddef>
#include <string>
#include <vector>

namespace kvkeep_eval {

// A number with its thousands apart: 1234567 is "1,234,567".
[[nodiscard]] std::string grouped(std::size_t number);

// Four digits, or all of a larger number.
[[nodiscard]] std::string measured_text(double value);

// Rows of as many cells each as lines in which columns stand below each other, the first to the left, the others to the
// right.
[[nodiscard]] std::string align(const std::vector<std::vector<std::string>>& rows);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TEXT_TABLE_HPP
