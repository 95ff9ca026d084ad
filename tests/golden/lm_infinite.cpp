// LM-Infinite, its ablation without a mask, and the two window policies of the InfLLM repository. All are chunk-invariant:
// each file runs in its own steps, token by token, and in steps of 7.
#include "golden.hpp"
#include "stream.hpp"

namespace golden {
namespace {

/// One step of the file.
struct file_step {
  std::size_t count = 0;
  bool has_after = false;
  positions after;  // cache_after
};

std::vector<file_step> steps_of(const json& file) {
  std::vector<file_step> out;
  for (const json& step : list_field(file, "steps")) {
    require(text_field(step, "op") == "append", "unknown step {}", text_field(step, "op"));
    file_step s{count_field(step, "token_count"), has(step, "cache_after"), {}};
    if (s.has_after) s.after = positions_field(step, "cache_after");
    out.push_back(std::move(s));
  }
  return out;
}

std::vector<file_step> equal_steps(std::size_t tokens, std::size_t most) {
  std::vector<file_step> out;
  for (std::size_t t = 0; t < tokens; t += most) out.push_back({(std::min)(most, tokens - t), false, {}});
  return out;
}

/// What a policy must do with a query: which keys it reads, and from how far.
struct expectation {
  std::size_t sinks = 0;
  std::size_t window = 0;
  bool masked = true;  // keys that are neither sinks nor in the window are not read

  [[nodiscard]] positions reads(position query) const {
    return masked ? sinks_and_window(query, sinks, window) : range(0, query + 1);
  }
};

template <class Policy>
void run_steps(const attention_case& data, const std::vector<file_step>& steps, const Policy& policy,
               const expectation& expected, tally& counted) {
  stream<Policy> tokens(data, policy, counted);
  for (const file_step& s : steps) {
    const auto first = to_position(tokens.next());
    const std::vector<query_reads> reads = tokens.append(s.count);
    for (std::size_t i = 0; i < reads.size(); ++i) {
      const position query = first + to_position(i);
      counted.same(fmt::format("keys read by token {}", query), positions_of(reads[i]), expected.reads(query));
    }
    if (s.has_after) counted.same(fmt::format("cache_after of token {}", tokens.next() - 1), tokens.held(), s.after);
  }
}

/// Runs a policy in the file's steps, token by token and in steps of 7.
template <class Policy>
std::string run_chunkings(const json& file, const attention_case& data, const Policy& policy,
                          const expectation& expected) {
  tally own;
  tally other;
  const std::vector<file_step> steps = steps_of(file);
  run_steps(data, steps, policy, expected, own);
  run_steps(data, equal_steps(data.tokens, 1), policy, expected, other);
  run_steps(data, equal_steps(data.tokens, 7), policy, expected, other);
  return fmt::format("{} steps, {} lists, max abs error {:.1e}; token by token and in steps of 7: {:.1e}", steps.size(),
                     own.compared() + other.compared(), own.largest_error(), other.largest_error());
}

/// The authors' rule to the letter: sinks behind the window at min(limit, K - 1), K tokens being seen when the step ends.
struct authors_distance {
  kvkeep::beyond rule;
  const positions* seen;  // K of each query's step, [tokens]

  [[nodiscard]] position operator()(const kvkeep::key_place& k) const {
    if (k.age() < to_position(rule.window)) return k.age();
    return (std::min)(to_position(rule.at), (*seen)[static_cast<std::size_t>(k.query)] - 1);
  }
  [[nodiscard]] kvkeep::key_storage storage(const kvkeep::retention& r) const { return rule.storage(r); }
};

/// K of each token's step, [tokens].
positions seen_of(const std::vector<file_step>& steps) {
  positions seen;
  for (const file_step& s : steps) seen.insert(seen.end(), s.count, to_position(seen.size() + s.count));
  return seen;
}

/// The optional middle top-k, in the steps of the file: only the last query of a step reads middle keys.
report run_middle(const json& file, const attention_case& data) {
  const json& params = field(file, "params");
  const kvkeep::lm_infinite::middle policy{.sinks = count_field(params, "global_branch"),
                                           .window = count_field(params, "local_branch"),
                                           .limit_distance = count_field(params, "limit_distance"),
                                           .count = count_field(params, "top_k_attention"),
                                           .at = count_field(params, "top_k_insert_at"),
                                           .first_layer = 0,
                                           .rows = kvkeep::step_rows::last,
                                           .max_tokens = data.tokens};
  auto cache = kvkeep::make_cache(data.shape, policy, {.positions = data.encoding, .max_step = data.longest_step});
  tally counted;
  const std::size_t query_row = data.shape.query_heads * data.shape.head_dim;
  const std::size_t kv_row = data.shape.kv_heads * data.shape.head_dim;
  std::size_t next = 0;
  std::size_t active = 0;
  for (const json& step_of_file : list_field(file, "steps")) {
    const std::size_t count = count_field(step_of_file, "token_count");
    std::vector<float> out(count * query_row, std::nanf(""));
    auto step = cache.begin(count);
    step.attend(0, {data.q.data() + next * query_row, count, data.shape.query_heads, data.shape.head_dim},
                {data.k.data() + next * kv_row, count, data.shape.kv_heads, data.shape.head_dim},
                {data.v.data() + next * kv_row, count, data.shape.kv_heads, data.shape.head_dim},
                {out.data(), count, data.shape.query_heads, data.shape.head_dim});
    step.commit();
    compare_outputs(data, next, count, out, counted);
    next += count;
    for (std::size_t head = 0; head < data.shape.query_heads; ++head) {
      positions ours;
      for (const std::uint32_t at : cache.memory().retrieved(0, head)) ours.push_back(to_position(at));
      positions expected;
      if (has(step_of_file, "topk_positions")) {
        for (const json& at : field(step_of_file, "topk_positions").at(head)) {
          expected.push_back(to_position(as_count(at, "topk_positions")));
        }
        ++active;
      }
      counted.same(fmt::format("middle keys of head {} at token {}", head, next - 1), ours, expected);
    }
  }
  return {false, fmt::format("{} steps, {} lists of middle keys, max abs error {:.1e}",
                             list_field(file, "steps").size(), active, counted.largest_error())};
}

}  // namespace

report run_lm_infinite(const json& file) {
  const json& params = field(file, "params");
  const attention_case data = load_attention_case(file);
  if (has(params, "top_k_attention")) return run_middle(file, data);
  const std::size_t sinks = count_field(params, "global_branch");
  const std::size_t window = count_field(params, "local_branch");
  const std::size_t limit = count_field(params, "limit_distance");
  if (!bool_field(params, "use_lambda_mask")) {
    require(limit <= window, "limit_distance {} above the window: min(limit_distance, K - 1) might differ", limit);
    const kvkeep::policy everything{kvkeep::keep_all{data.tokens}, kvkeep::read_all{}, kvkeep::beyond{limit, limit},
                                    kvkeep::each_token{}};
    return {false, run_chunkings(file, data, everything, {0, 0, false}) + "; nothing masked, ages from " +
                       std::to_string(limit) + " on at that distance"};
  }
  const kvkeep::lm_infinite policy{.sinks = sinks, .window = window, .limit_distance = limit};
  // The authors rotate the far query to min(limit, K - 1), which differs from `limit` only if a query of a step with
  // K <= limit has a sink behind its window.
  const std::vector<file_step> steps = steps_of(file);
  const positions seen = seen_of(steps);
  position smallest = 0;  // K of the first step in which a sink is behind a window
  for (std::size_t t = data.tokens; t-- > 0;) {
    if (sinks > 0 && t >= window) smallest = seen[t];
  }
  if (smallest > 0 && smallest - 1 < to_position(limit)) {
    tally counted;
    const kvkeep::policy literal{kvkeep::keep{kvkeep::sinks{sinks}, kvkeep::recent{window}}, kvkeep::read_all{},
                                 authors_distance{{window, limit}, &seen}, kvkeep::each_token{}};
    run_steps(data, steps, literal, {sinks, window, true}, counted);
    return {false,
            fmt::format("{} steps, {} lists, max abs error {:.1e}; with the authors' min(limit_distance, K - 1) as a "
                        "distance rule of the test: it is below limit_distance = {} here and depends on the steps",
                        steps.size(), counted.compared(), counted.largest_error(), limit)};
  }
  std::string detail = run_chunkings(file, data, policy, {sinks, window, true});
  if (limit != window) {
    detail += fmt::format(
        "; min(limit_distance, K - 1) is always limit_distance = {}: sinks are behind the window from "
        "K = {} on",
        limit, smallest);
  }
  return {false, detail};
}

report run_infllm_repo_stream_llm(const json& file) {
  const attention_case data = load_attention_case(file);
  const json& params = field(file, "params");
  const kvkeep::streaming_llm::settled policy{count_field(params, "n_init"), count_field(params, "n_local")};
  return {false, run_chunkings(file, data, policy, {policy.sinks, policy.window, true})};
}

report run_infllm_repo_infinite_lm(const json& file) {
  const attention_case data = load_attention_case(file);
  const json& params = field(file, "params");
  const std::size_t window = count_field(params, "n_local");
  require(window >= 1, "n_local is 0");
  const kvkeep::lm_infinite policy{
      .sinks = count_field(params, "n_init"), .window = window, .limit_distance = window - 1};
  return {false, run_chunkings(file, data, policy, {policy.sinks, window, true})};
}

}  // namespace golden
