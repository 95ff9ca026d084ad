#ifndef KVKEEP_EVAL_CHOICE_HPP
#define KVKEEP_EVAL_CHOICE_HPP

#include "matrix.hpp"
#include "tokenizer.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvkeep_eval {

// Which of several continuations a model is taken to have chosen.
enum class choice_rule : std::uint8_t {
  mean,       // the highest mean log-probability of a token
  sum,        // the highest log-probability
  published,  // one whose every token is the most likely, else the highest log-probability of the first token: the rule of
              // the authors of SirLLM (Zoeyyao27/SirLLM at 4c95578, sir_llm/eval_utils.py)
};

// How a model values a continuation.
struct choice_score {
  double log_probability = 0;  // of all tokens, nats
  double first = 0;            // of the first one
  bool most_likely = false;    // every token is
  std::size_t tokens = 0;
};

// The score of `tokens`, at least one: row `before` of `earlier` predicts the first of them, rows `first`, `first` + 1, ...
// of `logits` the others; both [rows, vocabulary].
[[nodiscard]] choice_score score_of(const matrix& earlier, Eigen::Index before, const matrix& logits,
                                    Eigen::Index first, std::span<const token> tokens);

// The number of the one chosen of `scores`, at least one; of equals the first.
[[nodiscard]] std::size_t choose(std::span<const choice_score> scores, choice_rule rule);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_CHOICE_HPP
