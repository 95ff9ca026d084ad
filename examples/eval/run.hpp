#ifndef KVKEEP_EVAL_RUN_HPP
#define KVKEEP_EVAL_RUN_HPP

#include "llama.hpp"
#include "record.hpp"
#include "tier_choice.hpp"
#include "tokenizer.hpp"

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace kvkeep_eval {

// What a run is given besides the policy: a stream, and whom to tell.
struct run_input {
  const llama& model;
  std::span<const token> stream;            // BOS and the text, [tokens + 1]
  std::size_t chunk = 1;                    // tokens per step
  std::function<void(std::size_t)> report;  // after every step, with the tokens seen
  std::function<bool()> stop;               // true: finish now
  tier_choice tiers;                        // of memory units
  kvkeep::background_ref io;                // for them

  [[nodiscard]] std::size_t tokens() const noexcept { return stream.size() - 1; }
};

// Both fill a new record of input.tokens() losses.

// Streams the text through the model with `policy` as its attention; the first `limit` tokens of it.
void run_policy(const run_input& input, const kvkeep::any_policy& policy, std::size_t limit, const std::string& spec,
                stream_record& record);

// Sliding window with re-computation: at every `every`-th position a fresh dense run over the last `window` tokens, the
// query included, at positions 0, 1, ... An oracle and no KV policy: it pays for the whole window at each position.
// Source: Xiao et al. 2024, arXiv 2309.17453, figure 1c.
void run_recompute(const run_input& input, std::size_t window, std::size_t every, const std::string& spec,
                   stream_record& record);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RUN_HPP
