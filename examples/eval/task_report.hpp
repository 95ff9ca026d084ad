#ifndef KVKEEP_EVAL_TASK_REPORT_HPP
#define KVKEEP_EVAL_TASK_REPORT_HPP

#include "accuracy.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace kvkeep_eval {

// What became of the fact of each dialog: the tokens of its word, those in brackets, up to the question for it. Means are
// over the tokens of all words.
struct fact_record {
  double surprisal = 0;        // nats
  double rank = 0;             // among the dialog's tokens before the question, without BOS; 1 is the most surprising
  double first_surprisal = 0;  // of the words' first tokens alone
  double first_rank = 0;
  double tokens = 0;   // of a dialog before the question
  accuracy all_held;   // recall where every token of the word was held when the question came
  accuracy some_held;  // some, but not all
  accuracy none_held;
};

// One policy's row of the report.
struct task_result {
  std::string spec;
  std::vector<accuracy> accuracies;
  std::optional<fact_record> fact;  // of Grocery Shopping
  std::size_t turns = 0;            // taken
  std::size_t tokens = 0;           // read, BOS and chosen choices included, others not
  std::size_t kept_tokens = 0;      // the most held after a turn
  double tokens_per_second = 0;     // with the scoring of choices
  bool full = false;                // it ended before a dialog because its cache was full
};

// An option as it was given, or its default.
struct task_setting {
  std::string name;
  std::string value;
};

// The whole report.
struct task_report {
  std::string machine;
  std::string model;
  std::size_t trained_length = 0;
  std::string task;
  std::string rule;  // of choice
  std::size_t seed = 0;
  std::vector<task_setting> settings;  // the others
  std::size_t dialogs = 0;
  std::size_t left_out = 0;      // turns that are too long for one of the policies, for all of them
  std::size_t longest_turn = 0;  // tokens, of those that are left
  bool interrupted = false;
  std::string error;  // what ended the run before its time; empty if nothing did
  std::vector<task_result> policies;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASK_REPORT_HPP
