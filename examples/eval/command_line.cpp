#include "command_line.hpp"

#include <fmt/format.h>

#include <string>

namespace kvkeep_eval {

CLI::Validator whole_number(std::size_t largest) {
  const auto check = [largest](std::string& text) -> std::string {
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    const bool fits = digits && text.size() <= 15 && std::stoull(text) <= largest;
    return fits ? "" : fmt::format("{} is not a whole number from 0 to {}", text, largest);
  };
  return {check, ""};
}

}  // namespace kvkeep_eval
