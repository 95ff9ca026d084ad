// The numbers in data/expected_logits.txt, which data/README.md describes.
#ifndef KVKEEP_TESTS_EVAL_EXPECTED_HPP
#define KVKEEP_TESTS_EVAL_EXPECTED_HPP

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer.hpp"

namespace kvkeep_eval_test {

/// The logits after one token.
struct expected_row {
  std::size_t position = 0;
  kvkeep_eval::token most_likely = 0;
  double log_sum_exp = 0;
  std::vector<std::pair<kvkeep_eval::token, double>> logits;  // of some tokens
};

/// What compare() must find for one policy.
struct expected_perplexity {
  std::string spec;
  std::size_t tokens = 0;
  double total = 0;
  double beyond_trained = 0;
};

/// What compare() must find at recomputed positions.
struct expected_recompute {
  std::size_t window = 0;
  std::size_t every = 0;
  std::size_t tokens = 0;
  double total = 0;
  double beyond_trained = 0;
};

/// The whole file.
struct expected_numbers {
  std::vector<kvkeep_eval::token> tokens;  // BOS and the first tokens of the text
  std::vector<expected_row> rows;          // for these tokens
  std::vector<expected_perplexity> perplexities;
  std::vector<expected_recompute> recomputed;
};

/// Reads the file; throws if a line of it is not understood.
[[nodiscard]] expected_numbers read_expected();

}  // namespace kvkeep_eval_test

#endif
