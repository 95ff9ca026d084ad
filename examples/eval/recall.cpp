#include "recall.hpp"

#include "checkpoint.hpp"
#include "contestant.hpp"
#include "failure.hpp"
#include "machine.hpp"
#include "option_range.hpp"
#include "policy_step.hpp"
#include "recall_run.hpp"
#include "run_watch.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace kvkeep_eval {

namespace {

template <class T>
void check_all_different(const char* name, std::vector<T> values) {
  if (values.empty()) {
    throw failure(fmt::format("{} are not given", name));
  }
  std::sort(values.begin(), values.end());
  if (std::adjacent_find(values.begin(), values.end()) != values.end()) {
    throw failure(fmt::format("{} has the same value twice", name));
  }
}

void check_options(const recall_options& options) {
  check_range("threads", options.threads, 1, most_threads);
  check_range("documents", options.documents, 1, most_recall_documents);
  check_range("chunk", options.chunk, 1, largest_chunk);
  for (const std::size_t length : options.lengths) {
    check_range("lengths", length, least_recall_length, most_recall_length);
  }
  for (const std::size_t depth : options.depths) {
    check_range("depths", depth, 0, 100);
  }
  check_all_different("lengths", options.lengths);
  check_all_different("depths", options.depths);
  check_all_different("kinds", options.kinds);
}

// A policy on documents of one length.
struct recall_entrant {
  std::string spec;
  std::size_t length = 0;
  kvkeep::any_policy policy;
  std::string skipped;  // why it does not run; empty if it does
};

// Why a policy that keeps everything cannot read so many tokens; empty if it can.
std::string no_room(const kvkeep::any_policy& policy, std::size_t tokens) {
  return policy.visit([&](const auto& preset) -> std::string {
    if constexpr (requires { preset.max_tokens; }) {
      if (preset.max_tokens < tokens) {
        return fmt::format("max_tokens = {}; a document with its questions has up to {}", preset.max_tokens, tokens);
      }
    }
    return {};
  });
}

std::vector<recall_entrant> make_entrants(const recall_options& options, const std::vector<std::string>& specs,
                                          std::size_t question_room) {
  std::vector<recall_entrant> out;
  for (const std::string& spec : specs) {
    for (const std::size_t length : options.lengths) {
      const kvkeep::any_policy policy = parse_kv_policy(spec, length + question_room);
      std::string skipped = no_room(policy, length + question_room);
      out.push_back({spec, length, policy, std::move(skipped)});
    }
  }
  return out;
}

// Builds every cache and throws it away: it shows that the last policy fits the model before the first has run.
void check_caches(const std::vector<recall_entrant>& entrants, const checkpoint& source, const recall_options& options,
                  kvkeep::background_ref io) {
  std::vector<kvkeep::any_policy> policies;
  for (const recall_entrant& each : entrants) {
    policies.push_back(each.policy);
  }
  check_tiers(options.tiers, policies);
  for (const recall_entrant& each : entrants) {
    if (each.skipped.empty()) {
      static_cast<void>(make_model_cache(source.config(), each.policy, options.chunk, options.threads, each.spec, {},
                                         tiers_for(options.tiers, each.policy, io)));
    }
  }
}

std::vector<std::string> names_of(const std::vector<fact_kind>& kinds) {
  std::vector<std::string> out;
  out.reserve(kinds.size());
  for (const fact_kind kind : kinds) {
    out.emplace_back(text_of(kind));
  }
  return out;
}

recall_report empty_report(const recall_options& options, const checkpoint& source, std::size_t question_room) {
  recall_report out;
  out.machine = describe_machine(options.threads);
  out.model = source.name();
  out.trained_length = source.config().trained_length;
  out.text = options.text.filename().string();
  out.seed = options.seed;
  out.chunk = options.chunk;
  out.documents = options.documents;
  out.question_room = question_room;
  out.kinds = names_of(options.kinds);
  out.depths = options.depths;
  out.lengths = options.lengths;
  return out;
}

}  // namespace

std::vector<std::string> recall_policies(std::size_t trained) {
  constexpr std::size_t sinks = 4;
  constexpr std::size_t unit = 8;
  const std::size_t rest = trained - sinks;
  const std::size_t half = trained / 2;
  const std::size_t quarter = trained / 4;
  return {fmt::format("dense:max_tokens={}", trained),
          fmt::format("sliding_window:window={}", trained),
          fmt::format("streaming_llm:sinks={},window={}", sinks, rest),
          fmt::format("sir_llm:sinks={},window={},count={}", sinks, rest - half, half),
          fmt::format("lm_infinite:sinks={},window={}", sinks, rest),
          fmt::format("lm_infinite_middle:sinks={},window={},count={},at={},first_layer=0", sinks, rest - quarter,
                      quarter, rest - quarter),
          fmt::format("inf_llm:sinks={},window={},block_size={},count={},representatives={}", sinks, half, unit,
                      half / unit, unit),
          fmt::format("inf_llm_published:n_init={},n_local={},block_size={},topk={},repr_topk={},exc_block_size={},"
                      "pending=exact",
                      sinks, half, unit, half / unit, unit, half)};
}

recall_report run_recall(const recall_options& options, const compare_hooks& hooks) {
  check_options(options);
  const checkpoint source(options.model, options.tokenizer);
  const document_maker documents(source.pieces(), source.begin_of_stream(), read_text(options.text),
                                 options.text.string(), options.kinds, options.seed);
  const std::size_t shortest = *std::min_element(options.lengths.begin(), options.lengths.end());
  static_cast<void>(documents.make({.length = shortest, .depth = options.depths[0], .number = 0}));
  const std::vector<std::string> specs =
      options.policies.empty() ? recall_policies(source.config().trained_length) : options.policies;
  const std::vector<recall_entrant> entrants = make_entrants(options, specs, documents.question_room());
  recall_report out = empty_report(options, source, documents.question_room());
  tier_io io(options.tiers);
  check_caches(entrants, source, options, io.ref());
  const llama model = source.load(options.threads);

  const std::size_t per_length = options.documents * options.depths.size();
  for (std::size_t i = 0; i < entrants.size() && !out.interrupted; ++i) {
    const recall_entrant& entrant = entrants[i];
    if (!entrant.skipped.empty()) {
      recall_result& result = out.results.emplace_back();
      result.spec = entrant.spec;
      result.length = entrant.length;
      result.skipped = entrant.skipped;
      continue;
    }
    run_watch watch(hooks,
                    {.spec = entrant.spec,
                     .policy = i + 1,
                     .policies = entrants.size(),
                     .done = 0,
                     .total = per_length * (entrant.length + documents.question_room()),
                     .unit = "tokens"},
                    out.interrupted);
    const recall_input input{.model = model,
                             .pieces = source.pieces(),
                             .documents = documents,
                             .kinds = out.kinds,
                             .depths = options.depths,
                             .length = entrant.length,
                             .per_depth = options.documents,
                             .chunk = options.chunk,
                             .report = watch.report(),
                             .stop = watch.stop(),
                             .tiers = options.tiers,
                             .io = io.ref()};
    out.error = watch.attempt([&] {
      if (recall_result result = run_recall(input, entrant.policy, entrant.spec); result.documents > 0) {
        out.results.push_back(std::move(result));
      }
    });
    if (!out.error.empty()) {
      return out;
    }
  }
  return out;
}

}  // namespace kvkeep_eval
