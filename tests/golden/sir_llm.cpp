// SirLLM: the authors' code turn by turn, and their values from logits and token ids.
#include "golden.hpp"
#include "stream.hpp"

namespace golden {
namespace {

using published = kvkeep::sir_llm::published;

published policy_of(const json& params) {
  return {count_field(params, "start_size"), count_field(params, "recent_size"),
          count_field(params, "token_entropy_size"), number_field(params, "decay_ratio")};
}

/// The authors' values from the file's logits, turn by turn, where it has any.
std::string compare_values(const json& file, const attention_case& data, const std::vector<float>& scores,
                           tally& counted) {
  const json& inputs = field(file, "inputs");
  if (!has(inputs, "logits")) return {};
  const std::size_t vocabulary = count_field(field(file, "shapes"), "vocab");
  const std::vector<float> logits = floats(field(field(inputs, "logits"), "data"), "logits");
  require(logits.size() == data.tokens * vocabulary, "logits have {} numbers", logits.size());
  std::vector<std::int32_t> ids;
  for (const position id : positions_field(field(inputs, "token_ids"), "data")) {
    ids.push_back(static_cast<std::int32_t>(id));
  }
  require(ids.size() == data.tokens, "{} token ids", ids.size());
  tally mine;
  for (const json& step : list_field(file, "steps")) {
    const std::size_t first = count_field(step, "token_begin");
    const std::size_t count = count_field(step, "token_count");
    const std::vector<float> values = kvkeep::published_surprisals(
        {logits.data() + first * vocabulary, count, vocabulary}, std::span(ids).subspan(first, count));
    for (std::size_t i = 0; i < count; ++i) {
      mine.near(fmt::format("value of token {}", first + i), static_cast<double>(values[i]),
                static_cast<double>(scores[first + i]), 2e-6 * std::abs(static_cast<double>(scores[first + i])));
    }
  }
  counted.same("values of tokens", mine.numbers(), data.tokens);
  return fmt::format("; {} values from logits, max abs error {:.1e}", mine.numbers(), mine.largest_error());
}

}  // namespace

report run_sirllm(const json& file) {
  const attention_case data = load_attention_case(file);
  const std::vector<float> scores = floats(field(field(field(file, "inputs"), "token_scores"), "data"), "token_scores");
  require(scores.size() == data.tokens, "{} scores for {} tokens", scores.size(), data.tokens);
  tally counted;
  std::size_t ties = 0;
  std::size_t evictions = 0;
  stream<published> tokens(data, policy_of(field(file, "params")), counted);
  for (const json& step : list_field(file, "steps")) {
    require(text_field(step, "op") == "round", "unknown step {}", text_field(step, "op"));
    const std::size_t first = tokens.next();
    const std::size_t count = count_field(step, "token_count");
    const std::string where = fmt::format("round at token {}: ", first);
    if (has(step, "cache_before")) {
      counted.same(where + "cache_before", tokens.held(), positions_field(step, "cache_before"));
    }
    positions expected = positions_field(step, "kept_before_append");
    if (tokens.held().size() > expected.size()) ++evictions;
    if (has(step, "tie_at_cut") && bool_field(step, "tie_at_cut")) ++ties;
    const std::vector<query_reads> reads =
        tokens.append(count, {.surprisals = std::span(scores).subspan(first, count)});
    positions ranks;
    for (const query_reads& query : reads) {
      expected.push_back(to_position(first + ranks.size()));
      counted.same(where + "kept_before_append and the turn's own tokens", positions_of(query), expected);
      ranks.push_back(to_position(query.size()) - 1);
      for (std::size_t i = 0; i < query.size(); ++i) {
        require(query[i].away == ranks.back() - to_position(i), "{}key {} is {} away", where, query[i].at,
                query[i].away);
      }
    }
    counted.same(where + "attended", expected, positions_field(step, "attended"));
    counted.same(where + "query_positions", ranks, positions_field(step, "query_positions"));
  }
  const std::string values = compare_values(file, data, scores, counted);
  return {false, fmt::format("{} turns, {} of them evict, {} with a tie at the cut, {} lists, max abs error {:.1e}{}",
                             list_field(file, "steps").size(), evictions, ties, counted.compared(),
                             counted.largest_error(), values)};
}

report run_sirllm_policy_fuzz(const json& file) {
  tally counted;
  std::size_t steps = 0;
  std::size_t refusals = 0;
  const json& streams = list_field(file, "streams");
  for (std::size_t i = 0; i < streams.size(); ++i) {
    std::size_t longest = 1;
    for (const json& step : list_field(streams[i], "steps")) {
      longest = (std::max)(longest, count_field(step, "token_count"));
    }
    auto plan = plan_of(policy_of(streams[i]), longest);
    for (const json& step : list_field(streams[i], "steps")) {
      const std::size_t count = count_field(step, "token_count");
      const position first = plan.next_position();
      require(to_position(count_field(step, "token_begin")) == first, "stream {}: a step does not continue it", i);
      if (has(step, "reference_raises")) {
        const positions before = plan.held();
        static_cast<void>(refused(fmt::format("stream {}, token {}: a turn of {} tokens", i, first, count),
                                  plan.try_begin(count), "n"));
        counted.same("what is held after a turn that was refused", plan.held(), before);
        ++refusals;
        break;
      }
      const std::vector<float> scores = floats(field(step, "scores"), "scores");
      positions expected = positions_field(step, "kept");
      for (const query_reads& query : feed(plan, count, count, {.surprisals = scores})) {
        expected.push_back(first + to_position(expected.size()) - to_position(positions_field(step, "kept").size()));
        counted.same(fmt::format("stream {}, turn at token {}: kept and the turn's own tokens", i, first),
                     positions_of(query), expected);
      }
      ++steps;
    }
  }
  require(steps > 0 && refusals > 0, "{} turns, {} refusals", steps, refusals);
  return {false, fmt::format("{} streams, {} turns, {} refused as the authors' assertion does, {} lists",
                             streams.size(), steps, refusals, counted.compared())};
}

}  // namespace golden
