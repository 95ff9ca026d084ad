// The rows step/<policy>/... and evict/<policy>/...: what surrounds attention in a decode step of a model of 32 layers.
#include <algorithm>

#include "clock.hpp"
#include "model_cache.hpp"
#include "rows.hpp"
#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

constexpr std::size_t model_layers = 32;

/// As many rounds as there is time for, 30 .. 300; 3 where there is none.
std::size_t rounds_of(double round, const effort& how_long) {
  if (how_long.seconds <= 0.0) return 3;
  return static_cast<std::size_t>(std::clamp(how_long.seconds / round, 30.0, 300.0));
}

double attend_all(model_cache& cache) {
  return timed(1, [&] {
    for (std::size_t l = 0; l < cache.layers(); ++l) cache.attend(l, {});
  });
}

/// Verifies the last layer of a step, which is then left.
std::string verify(model_cache& cache) {
  cache.begin();
  cache.attend(cache.layers() - 1, {});
  std::string wrong = cache.verify(cache.layers() - 1, {});
  cache.leave();
  return wrong;
}

/// Rounds that fit, by one step that is then left.
std::size_t rounds_for(model_cache& cache, const effort& how_long) {
  cache.begin();
  const std::size_t rounds = rounds_of(attend_all(cache), how_long);
  cache.leave();
  return rounds;
}

/// Decode steps: begin, attend in every layer, commit.
void step_row(benchmark::State& state, const cache_kind& kind, const problem& size, const effort& how_long) {
  const auto made = kind.make(size, model_layers, {});
  model_cache& cache = *made;
  if (const std::string wrong = verify(cache); !wrong.empty()) return fail(state, wrong);
  const std::size_t rounds = rounds_for(cache, how_long);
  for (auto _ : state) {
    state.PauseTiming();
    std::vector<double> begin;
    std::vector<double> attend;
    std::vector<double> commit;
    std::vector<double> step;
    std::vector<double> outside;
    for (std::size_t i = 0; i < rounds; ++i) {
      begin.push_back(timed(1, [&] { cache.begin(); }));
      attend.push_back(attend_all(cache));
      commit.push_back(timed(1, [&] { cache.commit(); }));
      step.push_back(begin.back() + attend.back() + commit.back());
      outside.push_back((begin.back() + commit.back()) / step.back());
    }
    state.SetIterationTime(median(step));
    state.counters["begin_us"] = 1e6 * median(begin);
    state.counters["attend_us"] = 1e6 * median(attend);
    state.counters["commit_us"] = 1e6 * median(commit);
    state.counters["outside_attend"] = median(outside);
    state.counters["spread"] = spread(step);
    state.counters["rounds"] = static_cast<double>(rounds);
    state.ResumeTiming();
  }
}

/// One eviction and one insertion without attention: the planner's decision, and a row for every layer and head. Between two
/// of them a whole step is attended, so that tables and rows are cold.
void evict_row(benchmark::State& state, const cache_kind& kind, const problem& size, const effort& how_long) {
  const auto made = kind.make(size, model_layers, {});
  model_cache& cache = *made;
  if (const std::string wrong = verify(cache); !wrong.empty()) return fail(state, wrong);
  const std::size_t rounds = rounds_for(cache, how_long);
  for (auto _ : state) {
    state.PauseTiming();
    std::vector<double> decide;
    std::vector<double> write;
    std::vector<double> both;
    std::vector<double> share;
    for (std::size_t i = 0; i < rounds; ++i) {
      cache.begin();
      const double attend = attend_all(cache);
      cache.leave();
      double decided = timed(1, [&] { cache.plan_token(); });
      const double written = timed(1, [&] { cache.write_token(); });
      decided += timed(1, [&] { cache.settle_token(); });
      decide.push_back(decided);
      write.push_back(written);
      both.push_back(decided + written);
      share.push_back((decided + written) / (attend + decided + written));
    }
    state.SetIterationTime(median(both));
    state.counters["decide_us"] = 1e6 * median(decide);
    state.counters["write_us"] = 1e6 * median(write);
    const interval certain = median_interval(share);
    state.counters["share_of_step"] = median(share);
    state.counters["share_of_step_low"] = certain.low;
    state.counters["share_of_step_high"] = certain.high;
    state.counters["spread"] = spread(both);
    state.counters["rounds"] = static_cast<double>(rounds);
    state.ResumeTiming();
  }
}

}  // namespace

std::vector<row> step_rows() {
  std::vector<row> rows;
  const problem size{.query_heads = 32, .kv_heads = 8, .head_dim = 128, .tokens = 4096, .queries = 1, .threads = 1};
  for (const cache_kind& kind : cache_kinds()) {
    const auto add = [&](std::string_view family, auto run) {
      rows.push_back({fmt::format("{}/{}/{}/{}", family, kind.policy, kind.dtype, size.name()),
                      [=](benchmark::State& state, const effort& how_long) { run(state, kind, size, how_long); }});
    };
    add("step", step_row);
    if (kind.evicts) add("evict", evict_row);
  }
  return rows;
}

}  // namespace kvkeep_bench
