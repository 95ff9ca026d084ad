// bench_select: choosing the k largest of n scores, kvkeep::top_k beside std::nth_element on indices; and the nearest of n keys.
//
// A row top_k/n<n>/k<k> runs both in turn, each time on other scores, and checks each time that they choose the same. Its time
// is the median of top_k; ratio_to_nth_element, how many times faster it is, is the median over the pairs with its 95 %
// interval.
//
// A row nearest_keys/<codec>/n<n>/k<k> is the search of nearest_keys for one query of 4 query heads and one kv head, head_dim 128:
// the scores of n keys, and the k best for each of the 4, unsorted. In turn with it: nothing but reading as many bytes; share_of_read_limit
// is the median of the pairs. Its choice is checked against sorting, once. Exit code 1: something chose differently, or no row
// matches. Rows approximate_keys/...: hnsw_rows.cpp.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cold_pool.hpp"
#include "hnsw_rows.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/codec/float16.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/top_k.hpp"
#include "kvkeep/storage/kv_store.hpp"
#include "nearest_search.hpp"
#include "read_limit.hpp"
#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

bool failed = false;

using indices = std::vector<std::uint32_t>;

template <class F>
double seconds_of(const F& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// What a rule would write without top_k: the indices of the k largest first, in any order.
void choose_by_nth_element(const std::vector<float>& scores, std::size_t k, indices& all) {
  std::iota(all.begin(), all.end(), 0U);
  std::nth_element(
      all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k - 1), all.end(),
      [&](std::uint32_t a, std::uint32_t b) { return scores[a] > scores[b] || (scores[a] == scores[b] && a < b); });
}

void top_k_row(benchmark::State& state, std::size_t n, std::size_t k) {
  constexpr std::size_t pairs = 41;
  std::vector<float> scores(n);
  indices chosen(k);
  indices scratch(kvkeep::top_k_scratch(n));
  indices all(n);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<double> ours;
  std::vector<double> ratios;
  for (auto _ : state) {
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      // New scores each time: a branch predictor learns those that it sees again.
      std::generate(scores.begin(), scores.end(), [&] { return normal(random); });
      const auto run_ours = [&] { return seconds_of([&] { kvkeep::top_k(scores, k, chosen, scratch); }); };
      const auto run_theirs = [&] { return seconds_of([&] { choose_by_nth_element(scores, k, all); }); };
      double mine = 0.0;
      double other = 0.0;
      if (pair % 2 == 0) {
        mine = run_ours();
        other = run_theirs();
      } else {
        other = run_theirs();
        mine = run_ours();
      }
      std::sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k));
      if (!std::equal(chosen.begin(), chosen.end(), all.begin())) {
        failed = true;
        state.SkipWithError("top_k and nth_element choose differently");
        return;
      }
      ours.push_back(mine);
      ratios.push_back(other / mine);
    }
    state.SetIterationTime(median(ours));
  }
  const interval certain = median_interval(ratios);
  state.counters["median_us"] = 1e6 * median(ours);
  state.counters["spread"] = spread(ours);
  state.counters["pairs"] = static_cast<double>(ratios.size());
  state.counters["ratio_to_nth_element"] = median(ratios);
  state.counters["ratio_to_nth_element_low"] = certain.low;
  state.counters["ratio_to_nth_element_high"] = certain.high;
}

template <class Codec>
void nearest_row(benchmark::State& state, std::size_t n, std::size_t k) {
  constexpr std::size_t dim = 128;
  constexpr std::size_t heads = 4;
  constexpr std::size_t pairs = 21;
  const std::size_t block_bytes = Codec::key_block_bytes(dim);
  const std::size_t blocks = n / kvkeep::block_tokens;
  // As often as no cache holds: a query finds its keys cold.
  const std::size_t copies = cold_bytes / (blocks * block_bytes) + 2;
  kvkeep::detail::arena memory(copies * blocks * block_bytes);
  const std::span<std::byte> keys = memory.take<std::byte>(copies * blocks * block_bytes);
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  std::vector<float> row(dim);
  for (std::size_t i = 0; i < n; ++i) {
    for (float& x : row) x = uniform(random);
    Codec::write_key(keys.data() + i / kvkeep::block_tokens * block_bytes, i % kvkeep::block_tokens, row);
  }
  for (std::size_t c = 1; c < copies; ++c) {
    std::copy_n(keys.begin(), blocks * block_bytes, &keys[c * blocks * block_bytes]);
  }
  const kvkeep::lane_view<Codec, kvkeep::f32> lane(keys.data(), nullptr, dim);
  std::vector<float> queries(heads * dim);
  nearest_search search(heads, k, n);
  indices all(n);
  read_limit reader(blocks * block_bytes, 1);
  std::vector<double> ours;
  std::vector<double> shares;
  for (auto _ : state) {
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      for (float& x : queries) x = uniform(random);
      const double limit = reader.run();
      ours.push_back(seconds_of([&] { search.run(lane, pair % copies * blocks, blocks, queries); }));
      shares.push_back(limit / ours.back());
      if (pair > 0) continue;
      std::vector<float> last(n);
      std::vector<float> some(kvkeep::detail::scanned_keys);
      kvkeep::detail::scan_keys(lane, 0, blocks, std::span<const float>(queries).last(dim), 1, some.data(),
                                [&](std::size_t block, std::size_t count) {
                                  std::copy_n(some.begin(), count * kvkeep::block_tokens,
                                              &last[block * kvkeep::block_tokens]);
                                });
      choose_by_nth_element(last, k, all);
      std::sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k));
      const auto chosen = search.best(heads - 1);
      if (!std::equal(chosen.begin(), chosen.end(), all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k))) {
        failed = true;
        state.SkipWithError("the nearest keys are not those that sorting finds");
        return;
      }
    }
    state.SetIterationTime(median(ours));
  }
  const interval certain = median_interval(shares);
  state.counters["median_us"] = 1e6 * median(ours);
  state.counters["spread"] = spread(ours);
  state.counters["share_of_read_limit"] = median(shares);
  state.counters["share_of_read_limit_low"] = certain.low;
  state.counters["share_of_read_limit_high"] = certain.high;
}

template <class Codec>
void add_nearest_rows(const std::string& codec) {
  for (const std::size_t n : {65536U, 1048576U}) {
    for (const std::size_t k : {32U, 256U, 1024U}) {
      const std::string name = "nearest_keys/" + codec + "/n" + std::to_string(n) + "/k" + std::to_string(k);
      benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { nearest_row<Codec>(state, n, k); })
          ->UseManualTime()
          ->Iterations(1)
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

void add_rows() {
  add_nearest_rows<kvkeep::f32>("f32");
  add_nearest_rows<kvkeep::f16>("f16");
  for (const std::size_t n : {4096U, 16384U, 65536U, 1048576U}) {
    for (const std::size_t k : {std::size_t{32}, std::size_t{256}, n / 4}) {
      const std::string name = "top_k/n" + std::to_string(n) + "/k" + std::to_string(k);
      benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { top_k_row(state, n, k); })
          ->UseManualTime()
          ->Iterations(1)
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace
}  // namespace kvkeep_bench

int main(int argc, char** argv) {
  kvkeep_bench::add_rows();
#if defined(KVKEEP_BENCH_HNSW)
  kvkeep_bench::add_hnsw_rows();
#endif
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const std::size_t rows = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return kvkeep_bench::failed || rows == 0 ? 1 : 0;
}
