// StreamingLLM: the authors' code step by step, and the exact form wherever both must give the same numbers.
#include <optional>

#include "golden.hpp"
#include "stream.hpp"

namespace golden {
namespace {

using published = kvkeep::streaming_llm::published;

published::orders order_of(const std::string& name) {
  if (name == "evict_then_append") return published::orders::evict_then_append;
  require(name == "append_then_evict", "unknown order {}", name);
  return published::orders::append_then_evict;
}

/// One step of the file.
struct file_step {
  bool append = true;                       // or evict_range
  std::size_t count = 0;                    // tokens, or the end of the range less its start
  std::size_t start = 0;                    // of the range, in cache indices
  std::optional<std::size_t> num_coming{};  // null, absent: empty
  positions before;
  positions attended;
  positions query_positions;
  positions after;
};

std::vector<file_step> steps_of(const json& file) {
  std::vector<file_step> out;
  for (const json& step : list_field(file, "steps")) {
    file_step s;
    s.before = positions_field(step, "cache_before");
    s.after = positions_field(step, "cache_after");
    const std::string op = text_field(step, "op");
    if (op == "append") {
      s.count = count_field(step, "token_count");
      s.attended = positions_field(step, "attended");
      s.query_positions = positions_field(step, "query_positions");
      if (has(step, "num_coming")) s.num_coming = count_field(step, "num_coming");
      require(s.query_positions.size() == s.count, "{} query positions for {} tokens", s.query_positions.size(),
              s.count);
    } else {
      require(op == "evict_range", "unknown step {}", op);
      s.append = false;
      s.start = count_field(step, "start");
      const std::size_t end = count_field(step, "end");
      require(s.start <= end && end <= s.before.size(), "evict_range of {} .. {} in a cache of {}", s.start, end,
              s.before.size());
      s.count = end - s.start;
    }
    out.push_back(std::move(s));
  }
  return out;
}

/// How a form of the policy is driven through the steps of a file.
struct drive {
  bool reserve_all = false;  // reserve(num_coming) before every step, not only where it exceeds the tokens that come
  bool trims_late = false;   // the file trims at the end of a step what ours drops when the next token comes
};

/// What the last query reads must be what the file says is attended; every query sits at its rank, and every key at the
/// difference of ranks.
void compare_reads(const file_step& s, const std::vector<query_reads>& reads, std::size_t number, tally& counted) {
  counted.same(fmt::format("step {}: attended", number), positions_of(reads.back()), s.attended);
  positions ranks;
  for (const query_reads& query : reads) {
    ranks.push_back(to_position(query.size()) - 1);
    for (std::size_t i = 0; i < query.size(); ++i) {
      const position away = ranks.back() - to_position(i);
      require(query[i].away == away, "step {}: key {} is {} away, expected {}", number, query[i].at, query[i].away,
              away);
    }
  }
  counted.same(fmt::format("step {}: query_positions", number), ranks, s.query_positions);
}

template <class Policy>
void run_steps(const attention_case& data, const std::vector<file_step>& steps, const Policy& policy, const drive& how,
               tally& counted) {
  stream<Policy> tokens(data, policy, counted);
  const auto cache = [&] { return how.trims_late ? tokens.next_held() : tokens.held(); };
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const file_step& s = steps[i];
    counted.same(fmt::format("step {}: cache_before", i), cache(), s.before);
    if (s.append) {
      if (s.num_coming && (how.reserve_all || *s.num_coming > s.count)) tokens.reserve(*s.num_coming);
      compare_reads(s, tokens.append(s.count), i, counted);
    } else if (s.count > 0) {
      tokens.erase(s.before[s.start], s.before[s.start + s.count - 1] + 1);
    } else {
      const position nowhere = s.start < s.before.size() ? s.before[s.start] : to_position(tokens.next());
      tokens.erase(nowhere, nowhere);
    }
    counted.same(fmt::format("step {}: cache_after", i), cache(), s.after);
  }
}

/// Why the exact form cannot give the numbers of a file, or nothing.
std::string why_not_exact(const std::vector<file_step>& steps, const published& p) {
  const std::size_t capacity = p.start + p.recent;
  const bool trims_late = p.order == published::orders::append_then_evict;
  bool erased = false;
  for (const file_step& s : steps) {
    const std::size_t held = s.before.size();
    if (!s.append) {
      if (trims_late) return "evict_range takes indices of a cache that was trimmed already";
      erased = true;
    } else if (trims_late) {
      if (s.count > 1 && held + s.count > capacity + 1) {
        return fmt::format("every query of a step of {} tokens reads all {} that were cached and its own", s.count,
                           held);
      }
    } else {
      const std::size_t coming = s.num_coming.value_or(s.count);
      if (held + coming <= capacity) continue;
      if (!s.num_coming && held + s.count > capacity)
        return fmt::format("a step of {} tokens grows the cache", s.count);
      if (coming > p.recent) return fmt::format("a step of {} tokens empties the window of {}", coming, p.recent);
      if (erased) return "after evict_range later tokens become the first cache entries";
    }
  }
  return {};
}

/// Runs the exact form where it must give the same numbers; returns what was done.
std::string run_exact(const attention_case& data, const std::vector<file_step>& steps, const published& p,
                      tally& counted) {
  if (const std::string why = why_not_exact(steps, p); !why.empty()) return "exact form differs by design: " + why;
  if (p.order == published::orders::append_then_evict) {
    const kvkeep::streaming_llm exact{.sinks = p.start, .window = p.recent + 1};
    run_steps(data, steps, exact, {.trims_late = true}, counted);
    return fmt::format("exact form with window = recent + 1 = {}, cache_after = next_held: same", exact.window);
  }
  const kvkeep::streaming_llm exact{.sinks = p.start, .window = p.recent};
  if (data.longest_step == 1) {
    run_steps(data, steps, exact, {}, counted);
    return fmt::format("exact form with window = recent = {}, token by token: same", exact.window);
  }
  run_steps(data, steps, exact, {.reserve_all = true}, counted);
  return fmt::format("exact form with window = recent = {}, reserve before each step: same", exact.window);
}

}  // namespace

report run_streaming_llm(const json& file) {
  const attention_case data = load_attention_case(file);
  const std::vector<file_step> steps = steps_of(file);
  const json& params = field(file, "params");
  const published policy{count_field(params, "start_size"), count_field(params, "recent_size"),
                         order_of(text_field(params, "order"))};
  tally counted;
  run_steps(data, steps, policy, {}, counted);
  const std::string exact = run_exact(data, steps, policy, counted);
  return {false, fmt::format("{} steps, {} lists, max abs error {:.1e}; {}", steps.size(), counted.compared(),
                             counted.largest_error(), exact)};
}

report run_streaming_llm_policy_fuzz(const json& file) {
  tally counted;
  std::size_t steps = 0;
  const json& streams = list_field(file, "streams");
  require(!streams.empty(), "no streams");
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const json& stream = streams[i];
    const published policy{count_field(stream, "start_size"), count_field(stream, "recent_size"),
                           order_of(text_field(stream, "order"))};
    std::size_t longest = 1;
    for (const json& step : list_field(stream, "steps"))
      longest = (std::max)(longest, count_field(step, "token_count"));
    auto plan = plan_of(policy, longest);
    for (const json& step : list_field(stream, "steps")) {
      const std::size_t count = count_field(step, "token_count");
      const position first = plan.next_position();
      require(to_position(count_field(step, "token_begin")) == first, "stream {}: a step does not continue it", i);
      const std::vector<query_reads> reads = feed(plan, count);
      const std::string where = fmt::format("stream {}, token {}: ", i, first);
      positions expected = positions_field(step, "kept_before_append");
      for (const query_reads& query : reads) {
        expected.push_back(first + (&query - reads.data()));
        counted.same(where + "kept_before_append and the step's own tokens", positions_of(query), expected);
      }
      counted.same(where + "cache_after", plan.held(), positions_field(step, "cache_after"));
      ++steps;
    }
  }
  require(steps > 0, "no steps");
  return {false, fmt::format("{} streams, {} steps, {} lists", streams.size(), steps, counted.compared())};
}

}  // namespace golden
