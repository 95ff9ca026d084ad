#include "run.hpp"

#include "compare.hpp"
#include "failure.hpp"
#include "loss.hpp"
#include "policy_step.hpp"
#include "process_memory.hpp"
#include "summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <utility>
#include <vector>

namespace kvkeep_eval {

namespace {

constexpr std::size_t logit_rows = 64;       // logits exist for this many tokens at a time: [logit_rows, vocabulary]
constexpr std::size_t watched_tokens = 400;  // of a stream, at equal distances
constexpr std::size_t watched_at_begin = 8;  // and all of the first, where the sinks are

// Seconds since its construction.
class stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Listens to what a cache evicts, and notes the fate of some tokens.
class eviction_watch {
 public:
  // The distance between watched tokens is odd, lest it favour the even positions that an `interval` keeps.
  explicit eviction_watch(std::size_t tokens) : every_((tokens / watched_tokens) | 1U) {}

  void operator()(const kvkeep::drop_event& event) {
    evicted_ += event.dropped.size();
    for (const kvkeep::token_drop& drop : event.dropped) {
      const auto token = static_cast<std::size_t>(drop.at);
      if (watched(token)) {
        fate& mine = fates_[token];
        mine.at = static_cast<std::size_t>(event.next);
        ++mine.units;
      }
    }
  }

  // Notes what was seen of the first `tokens` tokens of the stream in a cache of so many units: a token is gone when all of
  // them evicted it.
  void finish(std::size_t tokens, std::size_t units, stream_record& record) const {
    record.evicted = evicted_ / units;
    for (std::size_t token = 0; token < tokens; ++token) {
      if (watched(token)) {
        const auto found = fates_.find(token);
        const bool gone = found != fates_.end() && found->second.units == units;
        record.lifelines.push_back({token, gone ? std::optional(found->second.at) : std::nullopt});
      }
    }
  }

 private:
  struct fate {
    std::size_t at = 0;     // the stream's length when it was last evicted
    std::size_t units = 0;  // that evicted it
  };

  [[nodiscard]] bool watched(std::size_t token) const noexcept {
    return token < watched_at_begin || token % every_ == 0;
  }

  std::size_t every_;
  std::size_t evicted_ = 0;  // of all units
  std::map<std::size_t, fate> fates_;
};

float finite_loss(const matrix& logits, Eigen::Index row, token target, std::size_t position, const std::string& spec) {
  const double nats = loss(logits, row, target);
  if (!std::isfinite(nats)) {
    throw failure(fmt::format("policy {}: the loss at position {} is not finite", spec, position));
  }
  return static_cast<float>(nats);
}

// Notes the losses of the queries that gave `states`, [queries, hidden], the first of which stands at `position`.
void add_losses(const run_input& input, const matrix& states, std::size_t position, matrix& logits,
                const std::string& spec, std::vector<float>& losses) {
  const auto queries = static_cast<std::size_t>(states.rows());
  for (std::size_t first = 0; first < queries; first += logit_rows) {
    const std::size_t count = std::min(logit_rows, queries - first);
    input.model.logits(states, first, count, logits);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = position + first + i;
      losses[at] = finite_loss(logits, index(i), input.stream[at + 1], at, spec);
    }
  }
}

// Samples resident memory once for every point of the curve.
class memory_log {
 public:
  explicit memory_log(std::size_t tokens) : begins_(curve_begins(tokens)) {}

  void step_done(std::size_t position, stream_record& record) {
    if (next_ < begins_.size() && position >= begins_[next_]) {
      record.memory.push_back({position, resident_bytes()});
      while (next_ < begins_.size() && begins_[next_] <= position) {
        ++next_;
      }
    }
  }

 private:
  std::vector<std::size_t> begins_;
  std::size_t next_ = 0;
};

}  // namespace

void run_policy(const run_input& input, const kvkeep::any_policy& policy, std::size_t limit, const std::string& spec,
                stream_record& record) {
  const std::size_t tokens = std::min(limit, input.tokens());
  record.expect_steps(tokens / input.chunk + 1);
  eviction_watch watch(input.tokens());
  memory_log memory(input.tokens());
  const peak_memory peak;
  kvkeep::any_cache cache = make_model_cache(input.model.config(), policy, input.chunk, input.model.threads(), spec,
                                             watch, tiers_for(input.tiers, policy, input.io));
  const std::size_t chunk = tokens_at_once(policy, input.chunk);
  matrix logits;                  // [<= logit_rows, vocabulary]
  std::vector<float> surprisals;  // [tokens of a step]

  const stopwatch run;
  while (record.tokens < tokens && !(input.stop && input.stop())) {
    const std::size_t first = record.tokens;
    const std::size_t count = std::min(chunk, tokens - first);
    const stopwatch step;
    bool measured = false;
    const auto measure = [&](const matrix& states) {
      add_losses(input, states, first, logits, spec, record.losses);
      measured = true;
    };
    // A token's surprisal is the loss of the query before it; nobody predicted the first of the stream.
    const auto tell = [&](const matrix& states) -> std::span<const float> {
      measure(states);
      surprisals.resize(count);
      for (std::size_t i = 0; i < count; ++i) {
        surprisals[i] = first + i == 0 ? std::numeric_limits<float>::infinity() : record.losses[first + i - 1];
      }
      return surprisals;
    };
    const matrix states = run_model_step(input.model, cache, input.stream.subspan(first, count), spec, tell);
    if (!measured) {
      measure(states);
    }
    record.steps.push_back({first, static_cast<float>(step.seconds() * 1e3)});
    record.tokens = first + count;
    memory.step_done(first, record);
    if (input.report) {
      input.report(record.tokens);
    }
  }
  record.seconds = run.seconds();
  record.peak_rss_bytes = peak.bytes();
  record.kept_tokens = kept_tokens(cache);
  record.kv_bytes = cache.bytes().keys + cache.bytes().values;
  record.tiers = tier_use_of(cache);
  record.full = record.tokens == tokens && tokens < input.tokens();
  watch.finish(record.tokens, cache.units(), record);
}

void run_recompute(const run_input& input, std::size_t window, std::size_t every, const std::string& spec,
                   stream_record& record) {
  const std::size_t tokens = input.tokens();
  const std::size_t longest = std::min(window, tokens);
  const std::size_t chunk = std::min(longest, largest_chunk);  // whatever the others' steps: a window comes at once
  record.expect_steps(tokens / every + 1);
  memory_log memory(tokens);
  const peak_memory peak;
  kvkeep::any_cache cache =
      make_model_cache(input.model.config(), kvkeep::dense{.max_tokens = longest}, chunk, input.model.threads(), spec);
  matrix states;  // [<= chunk, hidden]
  matrix logits;  // [1, vocabulary]

  const stopwatch run;
  bool stopped = false;
  for (std::size_t at = every - 1; at < tokens; at += every) {
    stopped = input.stop && input.stop();
    if (stopped) {
      break;
    }
    const stopwatch step;
    const std::size_t end = at + 1;
    check(cache.try_clear(), spec);
    for (std::size_t first = end - std::min(window, end); first < end; first += chunk) {
      states = run_model_step(input.model, cache, input.stream.subspan(first, std::min(chunk, end - first)), spec);
    }
    input.model.logits(states, static_cast<std::size_t>(states.rows()) - 1, 1, logits);
    record.losses[at] = finite_loss(logits, 0, input.stream[end], at, spec);
    record.steps.push_back({at, static_cast<float>(step.seconds() * 1e3)});
    record.tokens = end;
    memory.step_done(at, record);
    if (input.report) {
      input.report(record.tokens);
    }
  }
  record.tokens = stopped ? record.tokens : tokens;
  record.seconds = run.seconds();
  record.peak_rss_bytes = peak.bytes();
  record.kept_tokens = kept_tokens(cache);
  record.kv_bytes = cache.bytes().keys + cache.bytes().values;
}

}  // namespace kvkeep_eval
