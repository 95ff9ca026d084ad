#ifndef KVKEEP_EVAL_RECALL_RUN_HPP
#define KVKEEP_EVAL_RECALL_RUN_HPP

#include "llama.hpp"
#include "recall_data.hpp"
#include "recall_report.hpp"
#include "tier_choice.hpp"

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace kvkeep_eval {

// What a run is given besides the policy.
struct recall_input {
  const llama& model;
  const tokenizer& pieces;
  const document_maker& documents;
  std::vector<std::string> kinds;
  std::vector<std::size_t> depths;
  std::size_t length = 0;                   // tokens of a document
  std::size_t per_depth = 0;                // documents
  std::size_t chunk = 0;                    // tokens of a step
  std::function<void(std::size_t)> report;  // after every step, with the tokens read
  std::function<bool()> stop;               // true: finish now
  tier_choice tiers;                        // of memory units
  kvkeep::background_ref io;                // for them
};

// Reads every document on an empty cache under the policy and asks the questions, token by token. A document that was
// stopped counts as not begun.
[[nodiscard]] recall_result run_recall(const recall_input& input, const kvkeep::any_policy& policy,
                                       const std::string& spec);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECALL_RUN_HPP
