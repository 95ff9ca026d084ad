// The nearest of n keys, by kvkeep::hnsw_index beside looking at all of them: how many of the best k it finds, and how much faster.
#include "hnsw_rows.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "clock.hpp"
#include "cold_pool.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/memory/hnsw_index.hpp"
#include "kvkeep/memory/key_scan.hpp"
#include "kvkeep/storage/kv_store.hpp"
#include "nearest_search.hpp"
#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

constexpr std::size_t dim = 128;
constexpr std::size_t heads = 4;

/// Rows around common centres, one for about 256 of n, half as far from them as those are from 0; lengths vary by a fifth.
class clustered {
 public:
  explicit clustered(std::size_t n) : centres_(std::max<std::size_t>(n / 256, 1) * dim) {
    for (float& x : centres_) x = normal_(random_);
  }
  void next(std::span<float> out) {
    const float* const centre = centres_.data() + random_() % (centres_.size() / dim) * dim;
    const float length = std::exp(0.2F * normal_(random_));
    for (std::size_t c = 0; c < dim; ++c) out[c] = length * (centre[c] + 0.5F * normal_(random_));
  }

 private:
  std::mt19937 random_{7};
  std::normal_distribution<float> normal_;
  std::vector<float> centres_;
};

/// Rows that have nothing to do with one another: the hardest case for a graph.
class scattered {
 public:
  explicit scattered(std::size_t) {}
  void next(std::span<float> out) {
    for (float& x : out) x = normal_(random_);
  }

 private:
  std::mt19937 random_{7};
  std::normal_distribution<float> normal_;
};

/// Sorts found keys and writes the scores of the stored ones, as the rule does.
template <class Lane>
void score_found(std::span<std::uint32_t> found, std::span<const float> query, const Lane& lane,
                 std::vector<float>& scores) {
  std::sort(found.begin(), found.end());
  std::array<float, kvkeep::detail::scanned_keys> of_block;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::size_t block = found[i] / kvkeep::block_tokens;
    if (i == 0 || found[i - 1] / kvkeep::block_tokens != block) {
      kvkeep::detail::scan_keys(lane, block, 1, query, 1, of_block.data(), [](std::size_t, std::size_t) {});
    }
    scores[i] = of_block[found[i] % kvkeep::block_tokens];
  }
  benchmark::DoNotOptimize(scores.data());
}

template <class Rows>
void approximate_row(benchmark::State& state, std::size_t n, std::size_t k, std::size_t width) {
  constexpr std::size_t pairs = 41;
  using codec = kvkeep::f32;
  const std::size_t block_bytes = codec::key_block_bytes(dim);
  const std::size_t blocks = n / kvkeep::block_tokens;
  const std::size_t copies = cold_bytes / (blocks * block_bytes) + 2;
  kvkeep::detail::arena memory(copies * blocks * block_bytes);
  const std::span<std::byte> keys = memory.take<std::byte>(copies * blocks * block_bytes);
  auto index = kvkeep::hnsw_index::try_make({.search_width = width}, dim, n);
  if (!index) return state.SkipWithError(index.error().message().c_str());
  Rows rows(n);
  std::vector<float> row(dim);
  double adding = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    rows.next(row);
    codec::write_key(keys.data() + i / kvkeep::block_tokens * block_bytes, i % kvkeep::block_tokens, row);
    bool added = false;
    adding += timed(1, [&] { added = index->try_add(static_cast<std::uint32_t>(i), row).has_value(); });
    if (!added) return state.SkipWithError("a key could not be added");
  }
  for (std::size_t c = 1; c < copies; ++c) {
    std::copy_n(keys.begin(), blocks * block_bytes, &keys[c * blocks * block_bytes]);
  }
  const kvkeep::lane_view<codec, codec> lane(keys.data(), nullptr, dim);
  std::vector<float> queries(heads * dim);
  std::vector<float> few(k);
  nearest_search all(heads, k, n);
  std::vector<std::uint32_t> found(heads * k);
  std::vector<double> ours;
  std::vector<double> ratios;
  std::size_t hits = 0;
  for (auto _ : state) {
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      for (std::size_t h = 0; h < heads; ++h) rows.next(std::span(queries).subspan(h * dim, dim));
      // In turn, so that each finds the caches as the other left them: full of something else.
      const double exact = timed(1, [&] { all.run(lane, pair % copies * blocks, blocks, queries); });
      std::array<std::size_t, heads> counts{};
      ours.push_back(timed(1, [&] {
        for (std::size_t h = 0; h < heads; ++h) {
          const std::span<const float> query = std::span(queries).subspan(h * dim, dim);
          const std::span<std::uint32_t> mine = std::span(found).subspan(h * k, k);
          const auto count = index->try_search(query, k, mine);
          counts[h] = count ? *count : 0;
          score_found(mine.first(counts[h]), query, lane, few);
        }
      }));
      ratios.push_back(exact / ours.back());
      for (std::size_t h = 0; h < heads; ++h) {
        for (std::size_t i = 0; i < counts[h]; ++i) {
          if (std::binary_search(all.best(h).begin(), all.best(h).end(), found[h * k + i])) ++hits;
        }
      }
    }
    state.SetIterationTime(median(ours));
  }
  const interval certain = median_interval(ratios);
  state.counters["median_us"] = 1e6 * median(ours);
  state.counters["spread"] = spread(ours);
  state.counters["recall"] = static_cast<double>(hits) / static_cast<double>(ratios.size() * heads * k);
  state.counters["ratio_to_exact"] = median(ratios);
  state.counters["ratio_to_exact_low"] = certain.low;
  state.counters["ratio_to_exact_high"] = certain.high;
  state.counters["add_us"] = 1e6 * adding / static_cast<double>(n);
  state.counters["bytes_per_key"] = static_cast<double>(kvkeep::hnsw_index::bytes({}, dim, n)) / static_cast<double>(n);
}

template <class Rows>
void add(const std::string& name, std::size_t n, std::size_t k, std::size_t width) {
  const std::string row =
      "approximate_keys/" + name + "/n" + std::to_string(n) + "/k" + std::to_string(k) + "/w" + std::to_string(width);
  benchmark::RegisterBenchmark(row.c_str(), [=](benchmark::State& state) { approximate_row<Rows>(state, n, k, width); })
      ->UseManualTime()
      ->Iterations(1)
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

void add_hnsw_rows() {
  for (const std::size_t n : {65536U, 1048576U}) {
    for (const std::size_t width : {64U, 128U, 256U}) add<clustered>("clustered", n, 32, width);
    add<clustered>("clustered", n, 256, 512);
  }
  add<scattered>("scattered", 65536, 32, 256);
}

}  // namespace kvkeep_bench
