// What is made of a stream's losses: curves, quantiles, and differences with their standard errors.
#include "summary.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::curve;
using kvkeep_eval::curve_begins;
using kvkeep_eval::difference;
using kvkeep_eval::quantile;
using kvkeep_eval::stream_record;

constexpr float none = std::numeric_limits<float>::quiet_NaN();

TEST(Summary, PerplexityIsOfWhatWasMeasured) {
  EXPECT_FALSE(kvkeep_eval::perplexity({}).has_value());
  EXPECT_FALSE(kvkeep_eval::perplexity(std::vector<float>{none, none}).has_value());
  EXPECT_DOUBLE_EQ(kvkeep_eval::perplexity(std::vector<float>{none, 1, 3}).value(), std::exp(2.0));
}

TEST(Summary, QuantilesByNearestRank) {
  EXPECT_EQ(quantile({}, 0.5), 0);
  EXPECT_EQ(quantile({7}, 0.5), 7);
  EXPECT_EQ(quantile({4, 1, 3, 2}, 0.5), 2);
  EXPECT_EQ(quantile({4, 1, 3, 2, 5}, 0.5), 3);
  std::vector<float> hundred;
  for (int i = 100; i >= 1; --i) hundred.push_back(static_cast<float>(i));
  EXPECT_EQ(quantile(hundred, 0.99), 99);
  EXPECT_EQ(quantile(hundred, 1), 100);
}

TEST(Summary, CurvesBeginDenseAndGoOnEvenly) {
  EXPECT_TRUE(curve_begins(0).empty());
  EXPECT_EQ(curve_begins(1), (std::vector<std::size_t>{0}));
  EXPECT_EQ(curve_begins(31), (std::vector<std::size_t>{0}));  // the rest is too short for a point
  EXPECT_EQ(curve_begins(32), (std::vector<std::size_t>{0, 16}));
  const std::vector<std::size_t> begins = curve_begins(64000);
  EXPECT_EQ(begins[1], 16U);
  EXPECT_EQ(begins.size(), 99U);
  for (std::size_t i = 1; i < begins.size(); ++i) {
    const std::size_t at = begins[i - 1];
    EXPECT_EQ(begins[i] - at, at < 128 ? 16 : at < 8000 ? at / 8 : 1000);
  }
  EXPECT_GE(64000 - begins.back(), 1000U);
}

TEST(Summary, ACurveHasMeansStepsAndMemory) {
  stream_record record(48);
  for (std::size_t i = 0; i < 40; ++i) record.losses[i] = static_cast<float>(i);
  record.losses[3] = none;
  record.steps = {{0, 5}, {4, 9}, {8, 7}, {32, 3}};
  record.memory = {{0, 100}, {8, 200}, {32, 300}};
  const auto points = curve(record, record.losses);
  ASSERT_EQ(points.size(), 3U);
  EXPECT_EQ(points[0].count, 15U);
  EXPECT_DOUBLE_EQ(points[0].mean, 117.0 / 15);
  EXPECT_EQ(points[0].step_ms, 7);
  EXPECT_EQ(points[0].rss_bytes, 200U);
  EXPECT_EQ(points[1].position, 16U);
  EXPECT_DOUBLE_EQ(points[1].mean, 23.5);
  EXPECT_EQ(points[1].step_ms, 7) << "a step that began earlier goes on";
  EXPECT_EQ(points[2].position, 32U);
  EXPECT_EQ(points[2].count, 8U);
  EXPECT_EQ(points[2].step_ms, 3);
  EXPECT_EQ(points[2].rss_bytes, 300U);

  const auto joined = curve(record, record.losses, 20);
  ASSERT_EQ(joined.size(), 2U);
  EXPECT_EQ(joined[0].count, 31U);
  EXPECT_EQ(joined[0].rss_bytes, 200U);
  EXPECT_EQ(joined[1].position, 32U);
  EXPECT_EQ(joined[1].count, 8U) << "the last has what is left";
}

TEST(Summary, DifferencesArePaired) {
  std::vector<float> losses(100, 2);
  std::vector<float> baseline(100, 1.5F);
  losses[40] = none;
  baseline[50] = none;
  baseline[10] = 100;  // before the first position that counts
  const auto apart = difference(losses, baseline, 20);
  ASSERT_TRUE(apart.has_value());
  EXPECT_EQ(apart->positions, 78U);
  EXPECT_DOUBLE_EQ(apart->mean, 0.5);
  EXPECT_FALSE(apart->standard_error.has_value()) << "80 positions are one batch";
  EXPECT_FALSE(difference(losses, baseline, 100).has_value());
  EXPECT_FALSE(difference(losses, baseline, 1000).has_value());
  EXPECT_FALSE(difference(std::vector<float>(5, none), std::vector<float>(5, 1), 0).has_value());
}

// 640 positions are ten batches of 64; their means are 0 and 2 in turn, so the standard deviation of a batch's mean is
// sqrt(10 / 9), and the standard error that over sqrt(10).
TEST(Summary, StandardErrorsComeFromBatches) {
  std::vector<float> losses(640);
  for (std::size_t i = 0; i < losses.size(); ++i) losses[i] = i / 64 % 2 == 0 ? 0 : 2;
  const std::vector<float> baseline(640, 0);
  const auto apart = difference(losses, baseline, 0);
  EXPECT_DOUBLE_EQ(apart->mean, 1);
  ASSERT_TRUE(apart->standard_error.has_value());
  EXPECT_NEAR(*apart->standard_error, 1.0 / 3, 1e-12);
  losses.resize(64000, none);  // one stream ended early: the batches are of what both have
  EXPECT_NEAR(difference(losses, std::vector<float>(64000, 0), 0)->standard_error.value(), 1.0 / 3, 1e-12);
  losses.resize(640);
  EXPECT_FALSE(difference(std::span(losses).first(639), std::span(baseline).first(639), 0)->standard_error.has_value());
}

// Losses that hold for 32 positions each: a standard error that took them for independent would be 5.7 times too small.
TEST(Summary, StandardErrorsCoverTheTruth) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const std::size_t streams = 400;
  std::size_t covered = 0;
  for (std::size_t n = 0; n < streams; ++n) {
    std::vector<float> losses(20000);
    float level = 0;
    for (std::size_t i = 0; i < losses.size(); ++i) {
      if (i % 32 == 0) level = normal(random);
      losses[i] = 3 + level;
    }
    const auto apart = difference(losses, std::vector<float>(20000, 3), 0);
    if (std::abs(apart->mean) <= 1.96 * apart->standard_error.value()) ++covered;
  }
  // 95% of 400 are 380, give or take 4.4
  EXPECT_GT(covered, 362U);
  EXPECT_LT(covered, 396U);
}

}  // namespace
}  // namespace kvkeep_eval_test
