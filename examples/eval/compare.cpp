#include "compare.hpp"

#include "checkpoint.hpp"
#include "failure.hpp"
#include "llama.hpp"
#include "machine.hpp"
#include "perplexity.hpp"
#include "text.hpp"
#include "tokenizer.hpp"

#include <kvkeep/kvkeep.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>
#include <utility>

namespace kvkeep_eval {

namespace {

constexpr std::size_t logit_rows = 64;  // logits exist for this many tokens at a time: [logit_rows, vocabulary]

// What a policy did wrong, in the library's own words but without its own name in front.
failure policy_failure(const std::string& spec, const kvkeep::error& error) {
  constexpr std::string_view prefix = "kvkeep: ";
  std::string_view what = error.what();
  what.remove_prefix(what.starts_with(prefix) ? prefix.size() : 0);
  return failure(fmt::format("policy {}: {}", spec, what));
}

void check(const kvkeep::result<void>& result, const std::string& spec) {
  if (!result) {
    throw policy_failure(spec, result.error());
  }
}

template <class T>
T value_or_fail(kvkeep::result<T> result, const std::string& spec) {
  if (!result) {
    throw policy_failure(spec, result.error());
  }
  return *std::move(result);
}

kvkeep::any_cache make_cache(const llama_config& config, const kvkeep::any_policy& policy,
                             const compare_options& options, const std::string& spec) {
  const kvkeep::model_shape shape{.layers = config.layers,
                                  .query_heads = config.query_heads,
                                  .kv_heads = config.kv_heads,
                                  .head_dim = config.head_dim};
  const kvkeep::cache_options cache{.positions = config.positions, .max_step = options.chunk};
  return value_or_fail(kvkeep::try_make_cache(shape, policy, cache), spec);
}

// The stream of `options`: BOS, then the first tokens of the text; [tokens + 1].
std::vector<token> read_stream(const compare_options& options, const checkpoint& source) {
  std::vector<token> stream = source.pieces().encode(read_text(options.text));
  if (stream.size() < options.tokens) {
    throw failure(
        fmt::format("{}: has {} tokens; {} were asked for", options.text.string(), stream.size(), options.tokens));
  }
  stream.resize(options.tokens);
  stream.insert(stream.begin(), source.begin_of_stream());
  return stream;
}

// The perplexity of a stream, in all and beyond the trained length.
struct stream_perplexity {
  perplexity total;
  perplexity beyond;
};

// Adds the losses of the queries that gave `states`, [queries, hidden], the first of which stands at `position`.
void add_losses(const llama& model, const matrix& states, std::span<const token> targets, std::size_t position,
                matrix& logits, stream_perplexity& sum) {
  for (std::size_t first = 0; first < targets.size(); first += logit_rows) {
    const std::size_t count = std::min(logit_rows, targets.size() - first);
    model.logits(states, first, count, logits);
    for (std::size_t i = 0; i < count; ++i) {
      const double nats = loss(logits, index(i), targets[first + i]);
      const std::size_t query = position + first + i;
      if (!std::isfinite(nats)) {
        throw failure(fmt::format("the loss at position {} is not finite", query));
      }
      sum.total.add(nats);
      if (query >= model.config().trained_length) {
        sum.beyond.add(nats);
      }
    }
  }
}

// Runs the model over one step of tokens with the cache as its attention; [tokens, hidden].
matrix run_step(const llama& model, kvkeep::any_cache& cache, std::span<const token> tokens, const std::string& spec) {
  const std::size_t query_heads = model.config().query_heads;
  const std::size_t kv_heads = model.config().kv_heads;
  const std::size_t head_dim = model.config().head_dim;
  using input = kvkeep::rows_view<const float>;
  using output = kvkeep::rows_view<float>;

  auto step = value_or_fail(cache.try_begin(tokens.size()), spec);
  const auto attend = [&](std::size_t layer, const matrix& q, const matrix& k, const matrix& v, matrix& out) {
    const input queries{q.data(), tokens.size(), query_heads, head_dim};
    const input keys{k.data(), tokens.size(), kv_heads, head_dim};
    const input values{v.data(), tokens.size(), kv_heads, head_dim};
    const output attended{out.data(), tokens.size(), query_heads, head_dim};
    check(step.try_attend(layer, queries, keys, values, attended), spec);
  };
  matrix states = model.hidden_states(tokens, attend);
  check(step.try_commit(), spec);
  return states;
}

policy_result run_policy(const llama& model, kvkeep::any_cache cache, const std::vector<token>& stream,
                         const compare_options& options, progress at,
                         const std::function<void(const progress&)>& report) {
  const std::string spec(at.spec);
  const std::span<const token> tokens(stream);
  stream_perplexity sum;
  matrix logits;  // [<= logit_rows, vocabulary]

  const auto start = std::chrono::steady_clock::now();
  for (std::size_t first = 0; first < options.tokens; first += options.chunk) {
    const std::size_t count = std::min(options.chunk, options.tokens - first);
    const matrix states = run_step(model, cache, tokens.subspan(first, count), spec);
    add_losses(model, states, tokens.subspan(first + 1, count), first, logits, sum);
    at.done = first + count;
    if (report) {
      report(at);
    }
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;

  const auto bytes = cache.bytes();
  return {.spec = spec,
          .kept_tokens = cache.held().size(),
          .kv_bytes = bytes.keys + bytes.values,
          .perplexity = sum.total.value(),
          .perplexity_beyond_trained = sum.beyond.empty() ? std::nullopt : std::optional(sum.beyond.value()),
          .tokens_per_second = static_cast<double>(options.tokens) / elapsed.count()};
}

void check_options(const compare_options& options) {
  if (options.tokens == 0) {
    throw failure("tokens is 0; at least one token of text is needed");
  }
  if (options.chunk == 0 || options.chunk > largest_chunk) {
    throw failure(fmt::format("chunk is {}; a step has from 1 to {} tokens", options.chunk, largest_chunk));
  }
  if (options.policies.empty()) {
    throw failure("no policies are given");
  }
}

// A failure if `policy` keeps every token, but not as many as the stream has.
void check_room(const kvkeep::any_policy& policy, const compare_options& options, const std::string& spec) {
  policy.visit([&](const auto& preset) {
    if constexpr (requires { preset.max_tokens; }) {
      if (preset.max_tokens < options.tokens) {
        throw failure(fmt::format("policy {}: max_tokens = {}; the stream has {} tokens", spec, preset.max_tokens,
                                  options.tokens));
      }
    }
  });
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

comparison compare(const compare_options& options, const std::function<void(const progress&)>& report) {
  check_options(options);
  const checkpoint source(options.model);
  const llama_config& config = source.config();
  const std::vector<token> stream = read_stream(options, source);
  std::vector<kvkeep::any_policy> policies;
  for (const std::string& spec : options.policies) {
    policies.push_back(value_or_fail(kvkeep::try_parse_policy(spec, {.max_tokens = options.tokens}), spec));
  }
  for (std::size_t i = 0; i < policies.size(); ++i) {
    check_room(policies[i], options, options.policies[i]);
    // Thrown away at once: it shows that the last policy fits the model before the first has run for an hour.
    static_cast<void>(make_cache(config, policies[i], options, options.policies[i]));
  }
  const llama model = source.load(1);

  comparison out{.machine = describe_machine(),
                 .model = source.name(),
                 .tokens = options.tokens,
                 .trained_length = config.trained_length,
                 .policies = {}};
  for (std::size_t i = 0; i < policies.size(); ++i) {
    const std::string& spec = options.policies[i];
    const progress at{.spec = spec, .policy = i + 1, .policies = policies.size(), .done = 0, .total = options.tokens};
    out.policies.push_back(
        run_policy(model, make_cache(config, policies[i], options, spec), stream, options, at, report));
  }
  return out;
}

}  // namespace kvkeep_eval
