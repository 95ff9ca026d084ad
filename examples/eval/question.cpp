#include "question.hpp"

#include <nlohmann/json.hpp>

namespace kvkeep_eval {

namespace {

using json = nlohmann::ordered_json;

std::string label(std::size_t choice) { return std::string(1, static_cast<char>('A' + choice)); }

json to_json_value(const question& q) {
  json choices = json::array();
  for (std::size_t i = 0; i < q.choices.size(); ++i) {
    choices.push_back({{"text", q.choices[i]}, {"label", label(i)}});
  }
  json out{{"id", q.id}, {"question", {{"stem", q.stem}, {"choices", choices}}}};
  if (q.user_choice) {
    out["id"] = std::stoull(q.id);
    out["user_choice"] = label(*q.user_choice);
  }
  out["answerKey"] = label(q.answer);
  return out;
}

}  // namespace

std::string to_json_lines(std::span<const dialog> dialogs) {
  std::string out;
  for (const dialog& each : dialogs) {
    for (const question& q : each) {
      out += to_json_value(q).dump() + "\n";
    }
  }
  return out;
}

}  // namespace kvkeep_eval
