#ifndef KVKEEP_EVAL_COMPARE_HPP
#define KVKEEP_EVAL_COMPARE_HPP

#include "report.hpp"
#include "tier_choice.hpp"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

// The most tokens a step may have.
inline constexpr std::size_t largest_chunk = 512;

// Positions from one recomputed position to the next, unless the user says otherwise.
inline constexpr std::size_t default_recompute_every = 64;

// What `kvkeep-eval compare` is asked to do.
struct compare_options {
  std::filesystem::path model;      // a directory, or a llama2.c checkpoint
  std::filesystem::path tokenizer;  // empty: the model directory's own
  std::filesystem::path text;
  std::size_t tokens = 0;             // of the text, without BOS
  bool repeat = false;                // begin the text again when it ends
  std::vector<std::string> policies;  // specs, in the order of the report
  std::size_t chunk = largest_chunk;  // tokens per step
  std::size_t threads = 1;
  std::optional<std::size_t> recompute_every;  // only with `recompute` among the policies
  std::string baseline;                        // a spec of the list; empty: `recompute` if it is listed, else the first
  tier_choice tiers;                           // of policies that retrieve memory units
};

// How far a run is: token `done` of `total`, under policy number `policy` of `policies`.
struct progress {
  std::string_view spec;
  std::size_t policy = 0;
  std::size_t policies = 0;
  std::size_t done = 0;
  std::size_t total = 0;
  std::string_view unit = "tokens";  // what is counted
};

// What a running comparison tells and asks after every step; either may be empty.
struct compare_hooks {
  std::function<void(const progress&)> report;
  std::function<bool()> stop;  // true: finish now, with what has been measured
};

// The specs in `list`, which separates them by semicolons; a failure if one of them is empty.
[[nodiscard]] std::vector<std::string> split_policies(std::string_view list);

// Streams the same text through each policy: BOS and all tokens of it but the last are queries, and each predicts the
// token after it, so `tokens` losses make the perplexity. A policy that keeps everything up to max_tokens is run that
// far. Every policy, and the whole input, is checked before the first stream begins; if a policy fails all the same, the
// report has those before it and the error.
[[nodiscard]] comparison compare(const compare_options& options, const compare_hooks& hooks = {});

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_COMPARE_HPP
