#include "policy_step.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

namespace kvkeep_eval {

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

std::size_t kept_tokens(const kvkeep::any_cache& cache) {
  std::size_t all = 0;
  for (std::size_t unit = 0; unit < cache.units(); ++unit) {
    all += cache.held_count(unit);
  }
  return (all + cache.units() - 1) / cache.units();
}

std::vector<kvkeep::position> held_anywhere(const kvkeep::any_cache& cache) {
  std::vector<kvkeep::position> all = cache.held(0);
  for (std::size_t unit = 1; unit < cache.units(); ++unit) {
    const std::vector<kvkeep::position> mine = cache.held(unit);
    std::vector<kvkeep::position> both;
    std::set_union(all.begin(), all.end(), mine.begin(), mine.end(), std::back_inserter(both));
    all = std::move(both);
  }
  return all;
}

void check_room(const kvkeep::any_policy& policy, std::size_t tokens, const std::string& spec) {
  policy.visit([&](const auto& preset) {
    if constexpr (requires { preset.max_tokens; }) {
      if (preset.max_tokens < tokens) {
        throw failure(
            fmt::format("policy {}: max_tokens = {}; the stream has {} tokens", spec, preset.max_tokens, tokens));
      }
    }
  });
}

kvkeep::any_cache make_model_cache(const llama_config& config, const kvkeep::any_policy& policy, std::size_t max_step,
                                   std::size_t threads, const std::string& spec, kvkeep::drop_listener on_drop,
                                   const kvkeep::unit_tiers& tiers) {
  const kvkeep::model_shape shape{.layers = config.layers,
                                  .query_heads = config.query_heads,
                                  .kv_heads = config.kv_heads,
                                  .head_dim = config.head_dim};
  const kvkeep::cache_options options{
      .positions = config.positions, .max_step = max_step, .workers = threads, .tiers = tiers, .on_drop = on_drop};
  return value_or_fail(kvkeep::try_make_cache(shape, policy, options), spec);
}

kvkeep::any_policy reseeded(const kvkeep::any_policy& policy, std::uint64_t number) {
  return policy.visit([&](auto preset) {
    if constexpr (requires { preset.seed; }) {
      preset.seed += number;
    }
    return kvkeep::any_policy(preset);
  });
}

std::size_t tokens_at_once(const kvkeep::any_policy& policy, std::size_t chunk) {
  return policy.visit([&](const auto& preset) {
    using planner = kvkeep::planner<std::remove_cvref_t<decltype(preset)>>;
    return planner::wants_surprisals && planner::when_type::chunk_invariant ? std::size_t{1} : chunk;
  });
}

stream_surprisals::stream_surprisals(const llama& model) : model_(model), stream_(model.config().vocabulary) {}

std::span<const float> stream_surprisals::next(std::span<const token> tokens, const matrix& states) {
  model_.logits(states, 0, tokens.size(), logits_);
  values_.resize(tokens.size());
  stream_.push({logits_.data(), tokens.size(), model_.config().vocabulary}, tokens, values_);
  return values_;
}

namespace {

// Attends rows [first, first + tokens) of one layer's projections in an open step of so many tokens.
void attend_rows(const llama& model, kvkeep::any_step& step, std::size_t layer, std::size_t first, const matrix& q,
                 const matrix& k, const matrix& v, matrix& out, const std::string& spec) {
  const std::size_t query_heads = model.config().query_heads;
  const std::size_t kv_heads = model.config().kv_heads;
  const std::size_t head_dim = model.config().head_dim;
  using input = kvkeep::rows_view<const float>;
  using output = kvkeep::rows_view<float>;

  const std::size_t tokens = step.tokens();
  const std::size_t query_at = first * query_heads * head_dim;
  const std::size_t key_at = first * kv_heads * head_dim;
  const input queries{q.data() + query_at, tokens, query_heads, head_dim};
  const input keys{k.data() + key_at, tokens, kv_heads, head_dim};
  const input values{v.data() + key_at, tokens, kv_heads, head_dim};
  const output attended{out.data() + query_at, tokens, query_heads, head_dim};
  check(step.try_attend(layer, queries, keys, values, attended, model.executor()), spec);
}

}  // namespace

matrix run_model_step(const llama& model, kvkeep::any_cache& cache, std::span<const token> tokens,
                      const std::string& spec, const tell_function& tell) {
  auto step = value_or_fail(cache.try_begin(tokens.size()), spec);
  const auto attend = [&](std::size_t layer, const matrix& q, const matrix& k, const matrix& v, matrix& out) {
    attend_rows(model, step, layer, 0, q, k, v, out, spec);
  };
  matrix states = model.hidden_states(tokens, attend);
  if (cache.wants_surprisals()) {
    check(step.try_commit({.surprisals = tell(states)}), spec);
  } else {
    check(step.try_commit(), spec);
  }
  return states;
}

matrix run_alternatives(const llama& model, kvkeep::any_cache& cache, std::span<const std::vector<token>> alternatives,
                        const std::string& spec) {
  std::vector<token> tokens;
  for (const std::vector<token>& each : alternatives) {
    tokens.insert(tokens.end(), each.begin(), each.end());
  }
  // Every layer attends each of them in a step of its own, which is left again: the cache never sees two at once.
  const auto attend = [&](std::size_t layer, const matrix& q, const matrix& k, const matrix& v, matrix& out) {
    std::size_t first = 0;
    for (const std::vector<token>& each : alternatives) {
      auto step = value_or_fail(cache.try_begin(each.size()), spec);
      attend_rows(model, step, layer, first, q, k, v, out, spec);
      first += each.size();
    }
  };
  return model.hidden_states(tokens, attend);
}

}  // namespace kvkeep_eval
