#ifndef KVKEEP_EVAL_OPTION_RANGE_HPP
#define KVKEEP_EVAL_OPTION_RANGE_HPP

#include <cstddef>
#include <string_view>

namespace kvkeep_eval {

// A failure that names the option unless its value is from `least` to `most`.
void check_range(std::string_view name, std::size_t value, std::size_t least, std::size_t most);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_OPTION_RANGE_HPP
