#ifndef KVKEEP_EVAL_QUESTION_HPP
#define KVKEEP_EVAL_QUESTION_HPP

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kvkeep_eval {

// A question with its choices. One with a single choice is a statement: the choice is what a listener would say to it.
struct question {
  std::string id;
  std::string stem;
  std::vector<std::string> choices;        // labelled A, B, ...; at most 26
  std::size_t answer = 0;                  // of the choices
  std::optional<std::size_t> user_choice;  // of the choices: what the user played, in Rock-Paper-Scissors
};

// Questions that one cache sees one after the other; it is empty before the first.
using dialog = std::vector<question>;

// The questions in the form of the data of Yao, Li, Zhao, "SirLLM", ACL 2024 (Zoeyyao27/SirLLM, data/): a JSON object a line.
// {"id", "question": {"stem", "choices": [{"text", "label"}]}, "answerKey"}, and "user_choice", which makes the id a number.
[[nodiscard]] std::string to_json_lines(std::span<const dialog> dialogs);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_QUESTION_HPP
