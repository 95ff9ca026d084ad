#include "option_range.hpp"

#include "failure.hpp"

#include <fmt/format.h>

namespace kvkeep_eval {

void check_range(std::string_view name, std::size_t value, std::size_t least, std::size_t most) {
  if (value < least || value > most) {
    throw failure(fmt::format("{} is {}; it must be from {} to {}", name, value, least, most));
  }
}

}  // namespace kvkeep_eval
