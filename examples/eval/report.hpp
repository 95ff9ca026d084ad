#ifndef KVKEEP_EVAL_REPORT_HPP
#define KVKEEP_EVAL_REPORT_HPP

#include "tier_choice.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace kvkeep_eval {

// The stream between two positions, under one policy.
struct curve_point {
  std::size_t position = 0;   // the first of them
  double mean = 0;            // loss, nats
  std::size_t count = 0;      // losses measured, at least one
  double step_ms = 0;         // median duration of the steps that began here, or of those before
  std::size_t rss_bytes = 0;  // resident memory after one of them; 0 where the system does not tell
};

// A policy against the baseline, on the positions where both have a loss, those beyond the trained length if there are any.
struct paired_difference {
  std::size_t positions = 0;
  double mean = 0;                       // nats: this policy's loss less the baseline's
  std::optional<double> standard_error;  // of the mean, by batch means; nothing if the stream is too short for batches
};

// A policy's losses on the recomputed positions alone.
struct sampled_perplexity {
  std::size_t positions = 0;
  double total = 0;
  std::optional<double> beyond_trained;
  std::vector<curve_point> loss;  // at those positions alone, without costs
};

// How long a token stayed in the cache; one token in many is watched.
struct lifeline {
  std::size_t token = 0;               // its stream position
  std::optional<std::size_t> evicted;  // the stream's length when it was evicted; nothing: it was held at the end
};

// One policy's row of the report.
struct policy_result {
  std::string spec;
  bool oracle = false;          // `recompute`, which is no KV policy
  std::size_t tokens = 0;       // of the stream that it saw
  bool full = false;            // it ended before the stream because its cache was full
  std::size_t kept_tokens = 0;  // held after the last step
  std::size_t kv_bytes = 0;
  std::optional<double> perplexity;                 // nothing for the oracle, which sees but a sample
  std::optional<double> perplexity_beyond_trained;  // nothing without a position there, or for the oracle
  double tokens_per_second = 0;
  double step_ms_p50 = 0;
  double step_ms_p99 = 0;
  std::optional<std::size_t> peak_rss_bytes;  // of the process while this policy ran; nothing where it cannot be reset
  std::optional<sampled_perplexity> sampled;  // with `recompute` in the list
  std::optional<paired_difference> paired;    // nothing for the baseline itself
  std::size_t evicted = 0;                    // tokens
  tier_use tiers;                             // of memory units
  std::vector<lifeline> lifelines;            // in the order of the stream
  std::vector<curve_point> loss;              // in the order of the stream
};

// The whole report.
struct comparison {
  std::string machine;
  std::string model;
  std::size_t tokens = 0;  // asked for
  std::size_t trained_length = 0;
  std::size_t chunk = 0;            // tokens per step
  std::size_t recompute_every = 0;  // positions; 0 without `recompute`
  std::string baseline;             // its spec
  bool interrupted = false;
  std::string error;  // what ended the comparison before its time; empty if nothing did
  std::vector<policy_result> policies;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_REPORT_HPP
