// top_k and running_top_k against a stable sort, on scores that are kind and scores that are not.
#include "kvkeep/core/top_k.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../support/allocations.hpp"
#include "kvkeep/core/running_top_k.hpp"

namespace kvkeep_test {
namespace {

using indices = std::vector<std::uint32_t>;
using floats = std::vector<float>;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// The definition: stable sort, the largest first, NaN last; then the first k, ascending.
indices slow_top_k(const floats& scores, std::size_t k) {
  indices all(scores.size());
  std::iota(all.begin(), all.end(), 0U);
  std::stable_sort(all.begin(), all.end(), [&](std::uint32_t a, std::uint32_t b) {
    if (std::isnan(scores[a]) || std::isnan(scores[b])) return !std::isnan(scores[a]) && std::isnan(scores[b]);
    return scores[a] > scores[b];
  });
  all.resize(std::min(k, all.size()));
  std::sort(all.begin(), all.end());
  return all;
}

/// top_k with spans of the very sizes it asks for and `scores` at an odd address, what it does not own fenced.
indices top_k_of(const floats& scores, std::size_t k) {
  constexpr std::uint32_t fence = 0xFE2CEU;
  const std::size_t count = std::min(k, scores.size());
  floats shifted(scores.size() + 1);
  std::copy(scores.begin(), scores.end(), shifted.begin() + 1);
  indices out(count + 2, fence);
  indices scratch(kvkeep::top_k_scratch(scores.size()) + 2, fence);
  const auto inner = [](indices& v) { return std::span(v).subspan(1, v.size() - 2); };
  const auto chosen = kvkeep::top_k(std::span<const float>(shifted).subspan(1), k, inner(out), inner(scratch));
  EXPECT_EQ(chosen.data(), out.data() + 1);
  for (const indices* v : {&out, &scratch}) {
    EXPECT_EQ(v->front(), fence);
    EXPECT_EQ(v->back(), fence);
  }
  return {chosen.begin(), chosen.end()};
}

struct distribution {
  std::string name;
  std::function<float(std::size_t i, std::size_t n, std::mt19937& random)> score;
};
std::vector<distribution> distributions() {
  const auto uniform = [](std::mt19937& r) { return std::uniform_real_distribution<float>(-1.0F, 1.0F)(r); };
  const auto one_of = [](std::mt19937& r, std::vector<float> values) { return values[r() % values.size()]; };
  return {
      {"uniform", [=](std::size_t, std::size_t, auto& r) { return uniform(r); }},
      {"constant", [](std::size_t, std::size_t, auto&) { return 3.25F; }},
      {"ascending", [](std::size_t i, std::size_t, auto&) { return static_cast<float>(i) - 500.0F; }},
      {"ascending below 0",
       [](std::size_t i, std::size_t, auto&) { return 1e-5F * (static_cast<float>(i) - 30000.0F); }},
      {"descending", [](std::size_t i, std::size_t, auto&) { return 500.0F - static_cast<float>(i); }},
      {"three values",
       [=](std::size_t, std::size_t, auto& r) {
         return one_of(r, {-1.0F, 0.5F, 2.0F});
       }},
      {"few large", [](std::size_t, std::size_t, auto& r) { return r() % 200 == 0 ? 1.0F : 0.0F; }},
      {"heavy tails", [](std::size_t, std::size_t, auto& r) { return std::cauchy_distribution<float>()(r); }},
      {"softmax-like", [=](std::size_t, std::size_t, auto& r) { return std::exp(40.0F * uniform(r)); }},
      {"infinities",
       [=](std::size_t, std::size_t, auto& r) {
         return one_of(r, {-infinity, uniform(r), infinity});
       }},
      {"only -infinity", [](std::size_t, std::size_t, auto&) { return -infinity; }},
      {"NaN here and there", [=](std::size_t, std::size_t, auto& r) { return r() % 3 == 0 ? nan : uniform(r); }},
      {"NaN but for a few", [=](std::size_t, std::size_t, auto& r) { return r() % 97 == 0 ? -infinity : nan; }},
      {"NaN of both signs", [](std::size_t, std::size_t, auto& r) { return r() % 2 == 0 ? nan : -nan; }},
      {"signed zeros",
       [=](std::size_t, std::size_t, auto& r) {
         return one_of(r, {0.0F, -0.0F});
       }},
      {"denormals", [=](std::size_t, std::size_t, auto& r) { return uniform(r) * 0x1p-140F; }},
      {"denormals and zeros",
       [=](std::size_t, std::size_t, auto& r) {
         return one_of(r, {0.0F, -0.0F, 0x1p-149F, -0x1p-149F});
       }},
      {"neighbours", [](std::size_t, std::size_t, auto& r) { return 1.0F + static_cast<float>(r() % 64) * 0x1p-23F; }},
      {"the extremes",
       [=](std::size_t, std::size_t, auto& r) {
         constexpr float most = std::numeric_limits<float>::max();
         return one_of(r, {most, -most, infinity, -infinity, 0.0F, nan});
       }},
      {"large in the last tenth",
       [=](std::size_t i, std::size_t n, auto& r) { return uniform(r) + (10 * i >= 9 * n ? 5.0F : 0.0F); }},
  };
}

TEST(TopK, EqualsAStableSort) {
  std::mt19937 random(7);
  for (const distribution& d : distributions()) {
    for (const std::size_t n : {1U, 2U, 3U, 5U, 15U, 16U, 17U, 31U, 33U, 64U, 255U, 256U, 1000U, 4096U, 20011U}) {
      floats scores(n);
      for (std::size_t i = 0; i < n; ++i) scores[i] = d.score(i, n, random);
      for (const std::size_t k : {std::size_t{0}, std::size_t{1}, std::size_t{2}, n / 64, n / 10, n / 4, n / 2, n - 1,
                                  n, n + 1, std::numeric_limits<std::size_t>::max()}) {
        ASSERT_EQ(top_k_of(scores, k), slow_top_k(scores, k)) << d.name << ", n = " << n << ", k = " << k;
      }
    }
  }
}

TEST(TopK, EqualsAStableSortOnAnyBits) {
  std::mt19937 random(8);
  for (std::size_t round = 0; round < 300; ++round) {
    floats scores(1 + random() % 3000);
    const std::uint32_t mask = round % 2 == 0 ? ~0U : 0xFF800000U;  // with few mantissas: ties
    for (float& x : scores) x = std::bit_cast<float>(static_cast<std::uint32_t>(random()) & mask);
    const std::size_t k = random() % (scores.size() + 1);
    ASSERT_EQ(top_k_of(scores, k), slow_top_k(scores, k)) << "round " << round << ", k = " << k;
  }
}

// Scores that repeat with the period of any stride: a strided sample sees one value of each period only.
TEST(TopK, PeriodicScoresMisleadNoSample) {
  constexpr std::size_t n = 16384;
  for (std::size_t period = 2; period <= 70; ++period) {
    for (const bool phase_is_large : {true, false}) {
      floats scores(n);
      for (std::size_t i = 0; i < n; ++i) {
        const float fine = static_cast<float>((i * 7919) % n) / static_cast<float>(n);
        scores[i] = fine + ((i % period == 0) == phase_is_large ? 10.0F : 0.0F);
      }
      for (const std::size_t k : {std::size_t{40}, n / period / 2, n / period + 100, n / 4}) {
        ASSERT_EQ(top_k_of(scores, k), slow_top_k(scores, k))
            << "period " << period << ", large " << phase_is_large << ", k = " << k;
      }
    }
  }
}

TEST(TopK, TheLowerIndexWinsATie) {
  EXPECT_EQ(top_k_of({1, 2, 2, 2, 1}, 2), (indices{1, 2}));
  EXPECT_EQ(top_k_of({1, 2, 2, 2, 1}, 4), (indices{0, 1, 2, 3}));
  EXPECT_EQ(top_k_of({-0.0F, 0.0F, -0.0F, -1.0F}, 2), (indices{0, 1}));
}

TEST(TopK, NaNIsTheLastChoice) {
  EXPECT_EQ(top_k_of({nan, -infinity, nan, 1.0F, -nan}, 2), (indices{1, 3}));
  EXPECT_EQ(top_k_of({nan, -infinity, nan, 1.0F, -nan}, 3), (indices{0, 1, 3}));
}

TEST(TopK, NothingIsChosenOfNothing) {
  EXPECT_EQ(top_k_of({}, 3), indices{});
  EXPECT_EQ(top_k_of({1, 2}, 0), indices{});
}

TEST(TopK, DoesNotAllocate) {
  floats scores(20000);
  std::mt19937 random(9);
  for (float& x : scores) x = static_cast<float>(random());
  indices out(100);
  indices scratch(kvkeep::top_k_scratch(scores.size()));
  const std::size_t before = allocations();
  kvkeep::top_k(scores, 100, out, scratch);
  EXPECT_EQ(allocations(), before);
}

/// What running_top_k chooses of the scores whose place in `there` is set, offered up to `most` pieces at a time: [0] ascending, [1]
/// the best first.
std::array<indices, 2> running_top_k_of(const floats& scores, std::size_t k, const std::vector<bool>& there,
                                        std::mt19937& random, std::size_t most) {
  using kvkeep::detail::running_top_k;
  constexpr std::size_t piece = running_top_k::piece;
  const std::size_t pieces = (scores.size() + piece - 1) / piece;
  floats padded = scores;
  padded.resize(pieces * piece, infinity);  // would be chosen
  std::vector<std::uint16_t> masks(pieces);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (there[i]) masks[i / piece] = static_cast<std::uint16_t>(masks[i / piece] | 1U << i % piece);
  }
  running_top_k chosen;
  kvkeep::detail::arena measured;
  chosen.lay_out(measured, k, scores.size());
  kvkeep::detail::arena memory(measured.used());
  chosen.lay_out(memory, k, scores.size());
  chosen.reset(k);
  for (std::size_t p = 0; p < pieces;) {
    const std::size_t count = std::min<std::size_t>(1 + random() % most, pieces - p);
    chosen.offer(p * piece, &padded[p * piece], std::span(masks).subspan(p, count));
    p += count;
  }
  chosen.finish();
  const indices ascending(chosen.numbers().begin(), chosen.numbers().end());
  chosen.sort();
  return {ascending, indices(chosen.numbers().begin(), chosen.numbers().end())};
}

/// Whether one score comes before another, NaN last.
bool before(float a, float b) { return std::isnan(b) ? !std::isnan(a) : a > b; }

TEST(RunningTopK, EqualsAStableSortOfWhatIsThere) {
  std::mt19937 random(17);
  for (const distribution& d : distributions()) {
    for (const std::size_t n : {1U, 15U, 16U, 17U, 300U, 1000U, 20011U}) {
      for (const std::size_t k : {std::size_t{1}, std::size_t{2}, n / 64, n / 4, n / 2, n}) {
        if (k == 0) continue;
        floats scores(n);
        std::vector<bool> there(n);
        const bool all = random() % 2 == 0;
        for (std::size_t i = 0; i < n; ++i) {
          scores[i] = d.score(i, n, random);
          there[i] = all || random() % 8 != 0;
        }
        indices expected;
        floats offered;
        for (std::size_t i = 0; i < n; ++i) {
          if (!there[i]) continue;
          expected.push_back(static_cast<std::uint32_t>(i));
          offered.push_back(scores[i]);
        }
        const indices best = slow_top_k(offered, k);
        std::transform(best.begin(), best.end(), expected.begin(), [&](std::uint32_t i) { return expected[i]; });
        expected.resize(best.size());
        const auto found = running_top_k_of(scores, k, there, random, 1 + random() % 16);
        ASSERT_EQ(found[0], expected) << d.name << ", n = " << n << ", k = " << k;
        std::stable_sort(expected.begin(), expected.end(),
                         [&](std::uint32_t a, std::uint32_t b) { return before(scores[a], scores[b]); });
        ASSERT_EQ(found[1], expected) << d.name << ", n = " << n << ", k = " << k;
      }
    }
  }
}

TEST(RunningTopK, BeginsAnew) {
  kvkeep::detail::running_top_k chosen;
  kvkeep::detail::arena measured;
  chosen.lay_out(measured, 4, 2000);
  kvkeep::detail::arena memory(measured.used());
  chosen.lay_out(memory, 4, 2000);
  const std::uint16_t all = 0xFFFF;
  floats scores(16);
  for (const float sign : {1.0F, -1.0F}) {  // the second time all are worse than the worst of the first
    chosen.reset(4);
    for (std::size_t i = 0; i < 2000; ++i) {
      scores[i % 16] = sign * static_cast<float>(1 + i);
      if (i % 16 == 15) chosen.offer(i - 15, scores.data(), {&all, 1});
    }
    chosen.finish();
    const indices expected = sign > 0 ? indices{1996, 1997, 1998, 1999} : indices{0, 1, 2, 3};
    EXPECT_EQ(indices(chosen.numbers().begin(), chosen.numbers().end()), expected);
  }
}

TEST(TopK, RefusesSpansThatAreTooSmall) {
  const floats scores(100, 1.0F);
  indices out(9);
  indices scratch(kvkeep::top_k_scratch(100));
  const auto small_out = kvkeep::try_top_k(scores, 10, out, scratch);
  ASSERT_FALSE(small_out);
  EXPECT_EQ(small_out.error().message(), "kvkeep: out = 9 elements; allowed: >= min(k, n) = 10 elements");
  const auto small_scratch = kvkeep::try_top_k(scores, 9, out, std::span(scratch).first(scratch.size() - 1));
  ASSERT_FALSE(small_scratch);
  EXPECT_EQ(small_scratch.error().argument(), "scratch");
  EXPECT_EQ(small_scratch.error().message(),
            "kvkeep: scratch = 263 elements; allowed: >= top_k_scratch(100) = 264 elements");
}

}  // namespace
}  // namespace kvkeep_test
