#ifndef KVKEEP_EVAL_JSON_TEXT_HPP
#define KVKEEP_EVAL_JSON_TEXT_HPP

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

namespace kvkeep_eval {

// Null for nothing.
template <class T>
[[nodiscard]] nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

// Null for an empty text.
[[nodiscard]] inline nlohmann::ordered_json or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

// A report as a file has it. A file name in it need not be UTF-8; JSON must.
[[nodiscard]] inline std::string json_text(const nlohmann::ordered_json& report) {
  return report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_JSON_TEXT_HPP
