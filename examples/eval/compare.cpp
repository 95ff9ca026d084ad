#include "compare.hpp"

#include "checkpoint.hpp"
#include "contestant.hpp"
#include "failure.hpp"
#include "llama.hpp"
#include "machine.hpp"
#include "option_range.hpp"
#include "policy_step.hpp"
#include "run.hpp"
#include "run_watch.hpp"
#include "stream.hpp"
#include "summary.hpp"

#include <kvkeep/kvkeep.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>
#include <variant>

namespace kvkeep_eval {

namespace {

void check_options(const compare_options& options) {
  if (options.tokens == 0) {
    throw failure("tokens is 0; at least one token of text is needed");
  }
  if (options.chunk == 0 || options.chunk > largest_chunk) {
    throw failure(fmt::format("chunk is {}; a step has from 1 to {} tokens", options.chunk, largest_chunk));
  }
  check_range("threads", options.threads, 1, most_threads);
  if (options.policies.empty()) {
    throw failure("no policies are given");
  }
}

// How many positions apart a comparison recomputes; 0 if it does not.
std::size_t recompute_distance(const compare_options& options, const std::vector<contestant>& contestants) {
  const bool wanted =
      std::any_of(contestants.begin(), contestants.end(), [](const contestant& c) { return c.is_oracle(); });
  if (!wanted && options.recompute_every) {
    throw failure(
        fmt::format("recompute-every is {}, but no recompute is among the policies", *options.recompute_every));
  }
  const std::size_t every = options.recompute_every.value_or(std::min(default_recompute_every, options.tokens));
  if (wanted && (every == 0 || every > options.tokens)) {
    throw failure(fmt::format("recompute-every is {}; it must be from 1 to tokens, {}", every, options.tokens));
  }
  return wanted ? every : 0;
}

// The contestant that the others are compared with.
std::size_t find_baseline(const compare_options& options, const std::vector<contestant>& contestants) {
  const auto named = [&](const contestant& c) {
    return options.baseline.empty() ? c.is_oracle() : c.spec == options.baseline;
  };
  const auto found = std::find_if(contestants.begin(), contestants.end(), named);
  if (found == contestants.end() && !options.baseline.empty()) {
    throw failure(fmt::format("baseline is '{}', which is not among the policies", options.baseline));
  }
  return found == contestants.end() ? 0 : static_cast<std::size_t>(found - contestants.begin());
}

// How much of a stream a policy can take: all of it, but for one that keeps everything it was given room for.
std::size_t longest_stream(const kvkeep::any_policy& policy, std::size_t tokens) {
  return policy.visit([&](const auto& preset) {
    if constexpr (requires { preset.max_tokens; }) {
      return std::min(preset.max_tokens, tokens);
    } else {
      return tokens;
    }
  });
}

// No step has more tokens than the stream.
std::size_t longest_step(const compare_options& options) { return std::min(options.chunk, options.tokens); }

// Builds every cache and throws it away: it shows that the last policy fits the model before the first has run for hours.
void check_caches(const std::vector<contestant>& contestants, const llama_config& config,
                  const compare_options& options, kvkeep::background_ref io) {
  std::vector<kvkeep::any_policy> policies;
  for (const contestant& c : contestants) {
    if (const auto* const policy = std::get_if<kvkeep::any_policy>(&c.what)) {
      policies.push_back(*policy);
    }
  }
  check_tiers(options.tiers, policies);
  for (const contestant& c : contestants) {
    if (const auto* const policy = std::get_if<kvkeep::any_policy>(&c.what)) {
      static_cast<void>(make_model_cache(config, *policy, longest_step(options), options.threads, c.spec, {},
                                         tiers_for(options.tiers, *policy, io)));
    } else {
      const std::size_t window = std::min(std::get<recompute>(c.what).window, options.tokens);
      static_cast<void>(make_model_cache(config, kvkeep::dense{.max_tokens = window}, std::min(window, largest_chunk),
                                         options.threads, c.spec));
    }
  }
}

// How many tokens a contestant will see.
std::size_t stream_length(const contestant& c, std::size_t tokens) {
  const auto* const policy = std::get_if<kvkeep::any_policy>(&c.what);
  return policy != nullptr ? longest_stream(*policy, tokens) : tokens;
}

void run(const contestant& c, const run_input& input, std::size_t recompute_every, stream_record& record) {
  if (const auto* const policy = std::get_if<kvkeep::any_policy>(&c.what)) {
    run_policy(input, *policy, longest_stream(*policy, input.tokens()), c.spec, record);
  } else {
    run_recompute(input, std::get<recompute>(c.what).window, recompute_every, c.spec, record);
  }
}

std::optional<double> perplexity_from(std::span<const float> losses, std::size_t first) {
  return perplexity(losses.subspan(std::min(first, losses.size())));
}

// The row of one record, without what takes another's losses.
policy_result summarise(const contestant& c, const stream_record& record, std::size_t trained_length) {
  std::vector<float> milliseconds(record.steps.size());
  std::transform(record.steps.begin(), record.steps.end(), milliseconds.begin(),
                 [](const step_cost& step) { return step.milliseconds; });
  const std::size_t seen = c.is_oracle() ? record.steps.size() : record.tokens;
  policy_result out;
  out.spec = c.spec;
  out.oracle = c.is_oracle();
  out.tokens = record.tokens;
  out.full = record.full;
  out.kept_tokens = record.kept_tokens;
  out.kv_bytes = record.kv_bytes;
  if (!out.oracle) {
    out.perplexity = perplexity(record.losses);
    out.perplexity_beyond_trained = perplexity_from(record.losses, trained_length);
  }
  out.tokens_per_second = static_cast<double>(seen) / record.seconds;
  out.step_ms_p50 = quantile(milliseconds, 0.5);
  out.step_ms_p99 = quantile(milliseconds, 0.99);
  out.peak_rss_bytes = record.peak_rss_bytes;
  out.tiers = record.tiers;
  out.evicted = record.evicted;
  out.lifelines = record.lifelines;
  out.loss = curve(record, record.losses);
  return out;
}

// Adds what a row says of the positions where the oracle ran, and against the baseline; either record may be missing.
void compare_with(const stream_record* oracle, const stream_record* baseline, const stream_record& record,
                  std::size_t trained_length, policy_result& out) {
  constexpr std::size_t fewest_in_a_point = 16;  // of a sampled curve, lest it show only noise
  const std::vector<float> compared = oracle != nullptr ? where_measured(record.losses, oracle->losses) : record.losses;
  if (const auto total = perplexity(compared); oracle != nullptr && total) {
    out.sampled = sampled_perplexity{
        .positions = static_cast<std::size_t>(std::count_if(compared.begin(), compared.end(), measured)),
        .total = *total,
        .beyond_trained = perplexity_from(compared, trained_length),
        .loss = curve(record, compared, fewest_in_a_point)};
  }
  if (baseline != nullptr) {
    out.paired = difference(compared, baseline->losses, record.losses.size() > trained_length ? trained_length : 0);
  }
}

// A stream, and room for the losses of every contestant.
struct run_memory {
  std::vector<token> stream;           // [tokens + 1]
  std::vector<stream_record> records;  // [contestants]
};

run_memory take_memory(const checkpoint& source, const compare_options& options) {
  const auto too_much = [&] {
    return failure(fmt::format("tokens is {}; there is no memory for so long a stream", options.tokens));
  };
  try {
    return {read_stream(source.pieces(), source.begin_of_stream(), options.text, options.tokens, options.repeat),
            std::vector<stream_record>(options.policies.size(), stream_record(options.tokens))};
  } catch (const std::bad_alloc&) {
    throw too_much();
  } catch (const std::length_error&) {
    throw too_much();
  }
}

// Runs the contestants one after the other until one fails or the user has had enough; the report has all that was
// measured by then.
void run_all(const std::vector<contestant>& contestants, const llama& model, const compare_options& options,
             const compare_hooks& hooks, kvkeep::background_ref io, run_memory& memory, comparison& out) {
  for (std::size_t i = 0; i < contestants.size() && !out.interrupted; ++i) {
    stream_record& record = memory.records[i];
    run_watch watch(hooks,
                    {.spec = contestants[i].spec,
                     .policy = i + 1,
                     .policies = contestants.size(),
                     .done = 0,
                     .total = stream_length(contestants[i], options.tokens),
                     .unit = "tokens"},
                    out.interrupted);
    const run_input input{.model = model,
                          .stream = memory.stream,
                          .chunk = longest_step(options),
                          .report = watch.report(),
                          .stop = watch.stop(),
                          .tiers = options.tiers,
                          .io = io};
    out.error = watch.attempt([&] { run(contestants[i], input, out.recompute_every, record); });
    if (!out.error.empty()) {
      return;
    }
    if (record.tokens > 0) {
      out.policies.push_back(summarise(contestants[i], record, out.trained_length));
      record.forget_steps();
    }
  }
}

}  // namespace

std::vector<std::string> split_policies(std::string_view list) {
  constexpr std::string_view blank = " \t\r\n";
  std::vector<std::string> out;
  for (std::size_t first = 0; first <= list.size();) {
    const std::size_t last = std::min(list.find(';', first), list.size());
    const std::string_view spec = list.substr(first, last - first);
    const std::size_t begin = spec.find_first_not_of(blank);
    if (begin == std::string_view::npos) {
      throw failure(fmt::format("policy number {} of '{}' is empty", out.size() + 1, list));
    }
    out.emplace_back(spec.substr(begin, spec.find_last_not_of(blank) - begin + 1));
    first = last + 1;
  }
  return out;
}

comparison compare(const compare_options& options, const compare_hooks& hooks) {
  check_options(options);
  const checkpoint source(options.model, options.tokenizer);
  run_memory memory = take_memory(source, options);
  std::vector<contestant> contestants;
  for (const std::string& spec : options.policies) {
    contestants.push_back(parse_contestant(spec, options.tokens));
  }
  const std::size_t baseline = find_baseline(options, contestants);
  comparison out;
  out.machine = describe_machine(options.threads);
  out.model = source.name();
  out.tokens = options.tokens;
  out.trained_length = source.config().trained_length;
  out.chunk = options.chunk;
  out.recompute_every = recompute_distance(options, contestants);
  out.baseline = contestants[baseline].spec;

  tier_io io(options.tiers);
  check_caches(contestants, source.config(), options, io.ref());
  run_all(contestants, source.load(options.threads), options, hooks, io.ref(), memory, out);

  if (out.policies.empty() && !out.error.empty()) {
    throw failure(out.error);
  }
  const auto record_of = [&](std::size_t i) { return i < out.policies.size() ? &memory.records[i] : nullptr; };
  const auto oracle = std::find_if(out.policies.begin(), out.policies.end(), [](const auto& r) { return r.oracle; });
  const stream_record* const oracle_record = record_of(static_cast<std::size_t>(oracle - out.policies.begin()));
  for (std::size_t i = 0; i < out.policies.size(); ++i) {
    compare_with(oracle_record, i != baseline ? record_of(baseline) : nullptr, memory.records[i], out.trained_length,
                 out.policies[i]);
  }
  return out;
}

}  // namespace kvkeep_eval
