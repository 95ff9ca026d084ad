#include "compare.hpp"

#include "checkpoint.hpp"
#include "contestant.hpp"
#include "failure.hpp"
#include "llama.hpp"
#include "machine.hpp"
#include "policy_step.hpp"
#include "run.hpp"
#include "stream.hpp"
#include "summary.hpp"

#include <kvkeep/kvkeep.hpp>

#include <fmt/format.h>

#include <algorithm>
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
  if (options.threads == 0 || options.threads > most_threads) {
    throw failure(fmt::format("threads is {}; it must be from 1 to {}", options.threads, most_threads));
  }
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
  const std::size_t every = options.recompute_every.value_or(default_recompute_every);
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

// Builds every cache and throws it away: it shows that the last policy fits the model before the first has run for hours.
void check_caches(const std::vector<contestant>& contestants, const llama_config& config,
                  const compare_options& options) {
  for (const contestant& c : contestants) {
    if (const auto* const policy = std::get_if<kvkeep::any_policy>(&c.what)) {
      static_cast<void>(make_model_cache(config, *policy, options.chunk, c.spec));
    } else {
      const std::size_t window = std::min(std::get<recompute>(c.what).window, options.tokens);
      static_cast<void>(
          make_model_cache(config, kvkeep::dense{.max_tokens = window}, std::min(window, largest_chunk), c.spec));
    }
  }
}

stream_record run(const contestant& c, const run_input& input, std::size_t recompute_every) {
  if (const auto* const policy = std::get_if<kvkeep::any_policy>(&c.what)) {
    return run_policy(input, *policy, longest_stream(*policy, input.tokens()), c.spec);
  }
  return run_recompute(input, std::get<recompute>(c.what).window, recompute_every, c.spec);
}

std::optional<double> perplexity_from(std::span<const float> losses, std::size_t first) {
  return perplexity(losses.subspan(std::min(first, losses.size())));
}

// The row of one record. The losses of `baseline`, and of `sampled` if there is an oracle, are those of other records.
policy_result summarise(const contestant& c, const stream_record& record, const stream_record* baseline,
                        const stream_record* oracle, std::size_t trained_length) {
  std::vector<float> milliseconds(record.steps.size());
  std::transform(record.steps.begin(), record.steps.end(), milliseconds.begin(),
                 [](const step_cost& step) { return step.milliseconds; });
  policy_result out{
      .spec = c.spec,
      .oracle = c.is_oracle(),
      .tokens = record.tokens,
      .kept_tokens = record.kept_tokens,
      .kv_bytes = record.kv_bytes,
      .perplexity = perplexity(record.losses).value_or(0),
      .perplexity_beyond_trained = perplexity_from(record.losses, trained_length),
      .tokens_per_second = static_cast<double>(c.is_oracle() ? record.steps.size() : record.tokens) / record.seconds,
      .step_ms_p50 = quantile(milliseconds, 0.5),
      .step_ms_p99 = quantile(milliseconds, 0.99),
      .peak_rss_bytes = record.peak_rss_bytes,
      .sampled = {},
      .paired = {},
      .evicted = record.evicted,
      .lifelines = record.lifelines,
      .loss = curve(record)};
  const std::vector<float> compared = oracle != nullptr ? where_measured(record.losses, oracle->losses) : record.losses;
  if (oracle != nullptr) {
    if (const auto total = perplexity(compared)) {
      out.sampled = sampled_perplexity{
          .positions = static_cast<std::size_t>(std::count_if(compared.begin(), compared.end(), measured)),
          .total = *total,
          .beyond_trained = perplexity_from(compared, trained_length)};
    }
  }
  if (baseline != nullptr) {
    out.paired = difference(compared, baseline->losses, record.losses.size() > trained_length ? trained_length : 0);
  }
  return out;
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
  const llama_config& config = source.config();
  const std::vector<token> stream =
      read_stream(source.pieces(), source.begin_of_stream(), options.text, options.tokens, options.repeat);
  std::vector<contestant> contestants;
  for (const std::string& spec : options.policies) {
    contestants.push_back(parse_contestant(spec, options.tokens));
  }
  const std::size_t every = recompute_distance(options, contestants);
  const std::size_t baseline = find_baseline(options, contestants);
  check_caches(contestants, config, options);
  const llama model = source.load(options.threads);

  comparison out{.machine = describe_machine(options.threads),
                 .model = source.name(),
                 .tokens = options.tokens,
                 .trained_length = config.trained_length,
                 .chunk = options.chunk,
                 .recompute_every = every,
                 .baseline = contestants[baseline].spec,
                 .interrupted = false,
                 .policies = {}};
  std::vector<stream_record> records;
  for (std::size_t i = 0; i < contestants.size() && !out.interrupted; ++i) {
    progress at{.spec = contestants[i].spec,
                .policy = i + 1,
                .policies = contestants.size(),
                .done = 0,
                .total = options.tokens};
    run_input input{.model = model, .stream = stream, .chunk = options.chunk, .report = {}, .stop = {}};
    input.report = [&](std::size_t done) {
      at.done = done;
      if (hooks.report) {
        hooks.report(at);
      }
    };
    input.stop = [&] {
      out.interrupted = out.interrupted || (hooks.stop && hooks.stop());
      return out.interrupted;
    };
    records.push_back(run(contestants[i], input, every));
    if (records.back().tokens == 0) {  // interrupted before its first step
      records.pop_back();
    }
  }
  const auto oracle = std::find_if(contestants.begin(), contestants.begin() + index(records.size()),
                                   [](const contestant& c) { return c.is_oracle(); });
  const auto oracle_at = static_cast<std::size_t>(oracle - contestants.begin());
  for (std::size_t i = 0; i < records.size(); ++i) {
    out.policies.push_back(
        summarise(contestants[i], records[i], i != baseline && baseline < records.size() ? &records[baseline] : nullptr,
                  oracle_at < records.size() ? &records[oracle_at] : nullptr, config.trained_length));
  }
  return out;
}

}  // namespace kvkeep_eval
