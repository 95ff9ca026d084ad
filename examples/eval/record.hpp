#ifndef KVKEEP_EVAL_RECORD_HPP
#define KVKEEP_EVAL_RECORD_HPP

#include "report.hpp"

#include "tier_choice.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

namespace kvkeep_eval {

// A step of a stream: when it began and what it cost.
struct step_cost {
  std::size_t position = 0;  // its first query
  float milliseconds = 0;
};

// Resident memory at some point of a stream.
struct memory_sample {
  std::size_t position = 0;
  std::size_t rss_bytes = 0;
};

// All that was measured while one policy ran.
struct stream_record {
  // Takes the memory of the losses at once, so that a policy's own growth is all that shows in the process's.
  explicit stream_record(std::size_t longest) : losses(longest, std::numeric_limits<float>::quiet_NaN()) {}

  // Takes that of the steps; every page of it is touched.
  void expect_steps(std::size_t count) {
    steps.resize(count);
    steps.clear();
  }
  // Gives it back.
  void forget_steps() {
    steps = {};
    memory = {};
  }

  std::vector<float> losses;  // nats by query position, [tokens]; not a number where none was measured
  std::vector<step_cost> steps;
  std::vector<memory_sample> memory;
  std::size_t tokens = 0;       // seen
  bool full = false;            // the stream went on, but the cache was full
  std::size_t kept_tokens = 0;  // a layer and kv head, on average
  std::size_t kv_bytes = 0;
  double seconds = 0;
  std::size_t evicted = 0;
  std::vector<lifeline> lifelines;
  std::optional<std::size_t> peak_rss_bytes;
  tier_use tiers;
};

[[nodiscard]] inline bool measured(float loss) noexcept { return !std::isnan(loss); }

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECORD_HPP
