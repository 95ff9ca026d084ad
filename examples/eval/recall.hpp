#ifndef KVKEEP_EVAL_RECALL_HPP
#define KVKEEP_EVAL_RECALL_HPP

#include "compare.hpp"
#include "recall_data.hpp"
#include "recall_report.hpp"

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace kvkeep_eval {

inline constexpr std::size_t least_recall_length = 64;  // tokens of a document
inline constexpr std::size_t most_recall_length = 1U << 30U;
inline constexpr std::size_t most_recall_documents = 1U << 20U;  // of each length and depth

// What `kvkeep-eval recall` is asked to do.
struct recall_options {
  std::filesystem::path model;      // a directory, or a llama2.c checkpoint
  std::filesystem::path tokenizer;  // empty: the directory's own
  std::filesystem::path text;
  std::size_t threads = 1;
  std::vector<std::string> policies;  // specs, in the order of the report; none: recall_policies()
  std::vector<std::size_t> lengths{170, 1000, 4000};
  std::vector<std::size_t> depths{0, 25, 50, 75, 100};
  std::size_t documents = 10;  // of each length and depth
  std::vector<fact_kind> kinds{fact_kind::grocery, fact_kind::pass_key};
  std::size_t seed = 0;
  std::size_t chunk = largest_chunk;  // tokens of a step
  tier_choice tiers;                  // of policies that retrieve memory units
};

// Policies that read about as many tokens as a model was trained on: dense as long as it can, windows, and those that
// retrieve: half from a window and half from small units, with which the bundled model recalls best, or three quarters from
// a window and one from single keys. Of those none are read before as many have left the window, so that with half the
// shortest documents would be forgotten. `trained` is at least 64.
[[nodiscard]] std::vector<std::string> recall_policies(std::size_t trained);

// Runs every policy on the same documents. All is checked before the first one begins; a policy that keeps everything is
// skipped at lengths for which it was given too little room. If a policy fails all the same, the report has what was
// measured before and the error.
[[nodiscard]] recall_report run_recall(const recall_options& options, const compare_hooks& hooks = {});

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECALL_HPP
