// bench_lookup: looking up memory units, beside the attention of the step that wants them.
//
// A row lookup/<who>/units<n> is a lookup of 16 units of n, each of 128 tokens, in one layer of 32 query heads, 8 kv heads,
// head_dim 128, all heads together. Who: plain, every score in fp32; exact, the library's own; candidates<n>, its lookups that are
// not exact. A row recall/<who>/units<n> has the model's own heads, one layer after the other, and only tells which units are found;
// so does joined/<who>/units<n>, where the heads of all the model's layers are those of one layer.
//
//   bench_lookup --vectors=FILE [--json] [Google Benchmark's options]
//
// FILE is one of bench_vectors. Without it, numbers are drawn: good for seeing that it works. Exit code 1: an exact lookup
// did not give what a plain scan does, or no row matches.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "clock.hpp"
#include "codec_case.hpp"
#include "cold_pool.hpp"
#include "filled_cache.hpp"
#include "kvkeep/memory/unit_index.hpp"
#include "policy_cases.hpp"
#include "statistics.hpp"
#include "unit_vectors.hpp"

namespace kvkeep_bench {
namespace {

using kvkeep::detail::unit_index;
using unit_list = std::vector<std::uint32_t>;

constexpr std::size_t chosen = 16;      // units of a lookup
constexpr std::size_t unit_size = 128;  // tokens
constexpr std::size_t queries = 64;     // that are looked up for
constexpr kvkeep::model_shape shape{1, 32, 8, 128};
constexpr std::array<std::size_t, 4> lengths{512, 2048, 8192, 32768};  // units
constexpr std::array<std::size_t, 5> candidates{0, 64, 96, 128, 256};  // 0: exact

bool failed = false;

/// An index of so many units of one layer.
class filled_index {
 public:
  filled_index(const kvkeep::model_shape& s, std::size_t units, std::size_t candidate_count)
      : shape_(s), units_(units) {
    kvkeep::detail::arena measured;
    index_.lay_out(measured, s, 1, units, 1, 1, candidate_count);
    memory_ = kvkeep::detail::arena(measured.used());
    index_.lay_out(memory_, s, 1, units, 1, 1, candidate_count);
    row_.resize(s.head_dim);
  }
  /// Represents a unit by a vector, [query_heads][head_dim].
  void put(std::size_t unit, std::span<const float> vector) {
    const float one = 1.0F;
    for (std::size_t head = 0; head < shape_.query_heads; ++head) {
      index_.represent(
          0, unit, head, {&one, 1}, [](std::size_t) { return true; },
          [&](std::size_t, std::span<float> row) {
            std::copy_n(vector.data() + head * shape_.head_dim, row.size(), row.begin());
          },
          row_);
    }
  }
  [[nodiscard]] unit_list look_up(std::span<const float> query) {
    const auto found = index_.look_up(0, 0, query.data(), units_, chosen, [](std::size_t) { return true; });
    return {found.begin(), found.end()};
  }
  /// What a lookup was before it had short cuts.
  [[nodiscard]] unit_list plain(std::span<const float> query) {
    const std::size_t length = shape_.query_heads * shape_.head_dim;
    scores_.resize(units_);
    best_.resize(units_);
    scratch_.resize(kvkeep::top_k_scratch(units_));
    const float* const all = index_.vector(0, 0, 0).data();
    kvkeep::detail::side_by_side(units_, [&](const kvkeep::detail::stretch_places& at) {
      std::array<const float*, kvkeep::detail::stretches> rows;
      for (std::size_t j = 0; j < rows.size(); ++j) rows[j] = all + at[j] * length;
      const auto scores = kvkeep::detail::dot_rows(query.data(), rows, length);
      for (std::size_t j = 0; j < rows.size(); ++j) scores_[at[j]] = scores[j];
    });
    const auto found = kvkeep::top_k(scores_, chosen, best_, scratch_);
    std::sort(found.begin(), found.end(), [&](std::uint32_t a, std::uint32_t b) {
      return scores_[a] > scores_[b] || (scores_[a] == scores_[b] && a < b);
    });
    return {found.begin(), found.end()};
  }

 private:
  kvkeep::model_shape shape_;
  std::size_t units_;
  unit_index index_;
  kvkeep::detail::arena memory_;
  std::vector<float> row_;
  std::vector<float> scores_;
  unit_list best_;
  unit_list scratch_;
};

/// How many of the exact ones were found.
double found_of(const unit_list& exact, const unit_list& found) {
  std::size_t hits = 0;
  for (const std::uint32_t u : exact) hits += std::count(found.begin(), found.end(), u) > 0 ? 1U : 0U;
  return static_cast<double>(hits) / static_cast<double>(exact.size());
}

/// Throws memory out of the caches, as the other layers of a step do.
void cool() {
  float sum = 0.0F;
  const std::span<const float> some = cold_pool::instance().next((std::size_t{96} << 20) / sizeof(float));
  for (std::size_t i = 0; i < some.size(); i += 16) sum += some[i];
  benchmark::DoNotOptimize(sum);
}

/// The attention of the step: sinks, a window and the units that were looked up, one query, f32.
class step_attention {
 public:
  step_attention()
      : cache_({.query_heads = shape.query_heads,
                .kv_heads = shape.kv_heads,
                .head_dim = shape.head_dim,
                .tokens = 128 + 4096 + chosen * unit_size,
                .queries = 1,
                .threads = 1},
               layers, {}) {
    begin();
  }
  [[nodiscard]] double run() {
    if (++at_ == layers) {
      cache_.leave();
      begin();
      at_ = 1;
    }
    return timed(1, [&] { cache_.attend(at_, {}); });
  }

 private:
  static constexpr std::size_t layers = 9;

  void begin() {
    cache_.begin();
    cache_.attend(0, {});  // the first of a step finds out what is read
  }

  filled_cache<dense_case, codec_case<kvkeep::f32, 20>> cache_;
  std::size_t at_ = 0;
};

step_attention& attention() {
  static step_attention one;
  return one;
}

std::string name_of(std::size_t candidate_count) {
  return candidate_count == 0 ? "exact" : "candidates" + std::to_string(candidate_count);
}

void wrong(benchmark::State& state) {
  failed = true;
  state.SkipWithError("an exact lookup is not that of a plain scan");
}

/// Time at the large shape.
void lookup_row(benchmark::State& state, const unit_vectors& data, std::size_t units, std::size_t candidate_count,
                bool plain) {
  const widened_vectors wide(data, shape);
  filled_index index(shape, units, candidate_count);
  std::vector<float> row(shape.query_heads * shape.head_dim);
  for (std::size_t u = 0; u < units; ++u) {
    wide.vector(u, row);
    index.put(u, row);
  }
  std::vector<double> times;
  std::vector<double> ratios;
  std::vector<double> recalls;
  for (auto _ : state) {
    for (std::size_t i = 0; i < queries; ++i) {
      wide.query(units, i, row);
      const unit_list exact = index.plain(row);
      unit_list mine;
      cool();
      const double step = attention().run();
      cool();
      times.push_back(timed(1, [&] { mine = plain ? index.plain(row) : index.look_up(row); }));
      ratios.push_back(times.back() / step);
      recalls.push_back(found_of(exact, mine));
      if (candidate_count == 0 && mine != exact) return wrong(state);
    }
    state.SetIterationTime(median(times));
  }
  const interval certain = median_interval(ratios);
  double recall = 0.0;
  for (const double r : recalls) recall += r / static_cast<double>(recalls.size());
  state.counters["median_us"] = 1e6 * median(times);
  state.counters["best_us"] = 1e6 * *std::min_element(times.begin(), times.end());
  state.counters["spread"] = spread(times);
  state.counters["share_of_attention"] = median(ratios);
  state.counters["share_of_attention_low"] = certain.low;
  state.counters["share_of_attention_high"] = certain.high;
  state.counters["recall"] = recall;
}

/// Recall of the model's own heads, in the mean of its layers and in the worst of them; or `joined`, all of them as one layer.
void recall_row(benchmark::State& state, const unit_vectors& data, std::size_t units, std::size_t candidate_count,
                bool joined) {
  const std::size_t together = joined ? data.layers : 1;
  const std::size_t rounds = data.layers / together;
  const kvkeep::model_shape own{1, together * data.heads, together * data.kv_heads, data.head_dim};
  const std::size_t length = data.heads * data.head_dim;
  const std::size_t first = data.query_at(units);
  const std::size_t count = std::min(queries, data.queries - std::min(first, data.queries - 1));
  double mean = 0.0;
  double worst = 1.0;
  std::vector<float> row(together * length);
  const auto row_of = [&](std::size_t round, const auto& of_layer) {
    for (std::size_t i = 0; i < together; ++i) std::copy_n(of_layer(round * together + i), length, &row[i * length]);
    return std::span<const float>(row);
  };
  for (auto _ : state) {
    const double seconds = timed(1, [&] {
      for (std::size_t round = 0; round < rounds; ++round) {
        filled_index index(own, units, candidate_count);
        for (std::size_t u = 0; u < units; ++u) {
          index.put(u, row_of(round, [&](std::size_t layer) { return data.vector(layer, u, 0).data(); }));
        }
        double recall = 0.0;
        for (std::size_t i = 0; i < count; ++i) {
          const auto query = row_of(round, [&](std::size_t layer) { return data.query(first + i, layer, 0).data(); });
          const unit_list exact = index.plain(query);
          const unit_list mine = index.look_up(query);
          recall += found_of(exact, mine) / static_cast<double>(count);
          if (candidate_count == 0 && mine != exact) return wrong(state);
        }
        mean += recall / static_cast<double>(rounds);
        worst = std::min(worst, recall);
      }
    });
    state.SetIterationTime(seconds);
  }
  state.counters["recall"] = mean;
  state.counters["recall_of_worst_layer"] = worst;
  state.counters["queries"] = static_cast<double>(count * rounds);
}

void add_rows(const unit_vectors& data) {
  const auto add = [](const std::string& name, auto run) {
    benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Iterations(1)->Unit(benchmark::kMicrosecond);
  };
  for (const std::size_t units : lengths) {
    if (units > data.units) continue;
    const std::string size = "/units" + std::to_string(units);
    add("lookup/plain" + size, [&data, units](benchmark::State& s) { lookup_row(s, data, units, 0, true); });
    for (const std::size_t c : candidates) {
      add("lookup/" + name_of(c) + size,
          [&data, units, c](benchmark::State& s) { lookup_row(s, data, units, c, false); });
    }
    for (const std::size_t c : candidates) {
      add("recall/" + name_of(c) + size,
          [&data, units, c](benchmark::State& s) { recall_row(s, data, units, c, false); });
      add("joined/" + name_of(c) + size,
          [&data, units, c](benchmark::State& s) { recall_row(s, data, units, c, true); });
    }
  }
}

int run(int argc, char** argv) {
  constexpr std::string_view option = "--vectors=";
  constexpr std::size_t kv_heads = 3;  // of the bundled model
  std::string path;
  std::string json = "--benchmark_format=json";
  std::vector<char*> rest;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(option)) {
      path = argument.substr(option.size());
    } else {
      rest.push_back(argument == "--json" ? json.data() : argv[i]);
    }
  }
  const unit_vectors data = path.empty() ? drawn_unit_vectors(2048) : read_unit_vectors(path, kv_heads);
  add_rows(data);
  int count = static_cast<int>(rest.size());
  benchmark::Initialize(&count, rest.data());
  if (benchmark::ReportUnrecognizedArguments(count, rest.data())) return 1;
  const std::size_t rows = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return failed || rows == 0 ? 1 : 0;
}

}  // namespace
}  // namespace kvkeep_bench

int main(int argc, char** argv) {
  try {
    return kvkeep_bench::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_lookup: {}\n", e.what());
    return 1;
  }
}
