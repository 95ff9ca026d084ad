#include "text_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace kvkeep_eval {

namespace {

// Characters, not bytes.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace

std::string grouped(std::size_t number) {
  std::string digits = fmt::to_string(number);
  for (std::size_t i = digits.size(); i > 3;) {
    i -= 3;
    digits.insert(i, 1, ',');
  }
  return digits;
}

std::string measured_text(double value) {
  return value >= 1000 ? grouped(static_cast<std::size_t>(value + 0.5)) : fmt::format("{:.4g}", value);
}

std::string align(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widest(rows.empty() ? 0 : rows[0].size());
  for (const std::vector<std::string>& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widest[i] = std::max(widest[i], width(row[i]));
    }
  }
  std::string out;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widest[i] - width(row[i]), ' ');
      line += i == 0 ? row[i] + pad : "  " + pad + row[i];
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

}  // namespace kvkeep_eval
