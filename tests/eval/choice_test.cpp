// Which choice is taken, and how sure a share of right ones is.
#include "choice.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "binomial.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::choice_rule;
using kvkeep_eval::choice_score;
using kvkeep_eval::choose;
using kvkeep_eval::interval;
using kvkeep_eval::matrix;
using kvkeep_eval::score_of;
using kvkeep_eval::token;
using kvkeep_eval::wilson_interval;

// Logits that are logarithms of probabilities.
matrix logarithms(const std::vector<std::vector<float>>& rows) {
  matrix out(static_cast<Eigen::Index>(rows.size()), static_cast<Eigen::Index>(rows[0].size()));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      out(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)) = std::log(rows[r][c]);
    }
  }
  return out;
}

TEST(Choice, ScoresComeFromTheRowBeforeEachToken) {
  const matrix earlier = logarithms({{0.2F, 0.3F, 0.5F}, {0.5F, 0.25F, 0.25F}});
  const matrix logits = logarithms({{0.9F, 0.05F, 0.05F}, {0.1F, 0.2F, 0.7F}, {0.8F, 0.1F, 0.1F}});
  const std::vector<token> tokens{0, 2, 0};
  // the first by earlier row 1, the second by row 1, the third by row 2; the row of the last token predicts nothing of it
  const choice_score score = score_of(earlier, 1, logits, 1, tokens);
  EXPECT_NEAR(score.first, std::log(0.5), 1e-6);
  EXPECT_NEAR(score.log_probability, std::log(0.5 * 0.7 * 0.8), 1e-6);
  EXPECT_EQ(score.tokens, 3U);
  EXPECT_TRUE(score.most_likely);
  EXPECT_FALSE(score_of(earlier, 0, logits, 1, tokens).most_likely);
  const std::vector<token> unlikely{0, 2, 1};
  EXPECT_FALSE(score_of(earlier, 1, logits, 1, unlikely).most_likely);
}

TEST(Choice, TheRulesDiffer) {
  const std::vector<choice_score> scores{
      {.log_probability = -4, .first = -0.1, .most_likely = false, .tokens = 2},  // best first token
      {.log_probability = -5, .first = -3, .most_likely = false, .tokens = 5},    // best mean
      {.log_probability = -2, .first = -2, .most_likely = false, .tokens = 1}};   // best sum
  EXPECT_EQ(choose(scores, choice_rule::mean), 1U);
  EXPECT_EQ(choose(scores, choice_rule::sum), 2U);
  EXPECT_EQ(choose(scores, choice_rule::published), 0U);
  std::vector<choice_score> exact = scores;
  exact[2].most_likely = true;
  EXPECT_EQ(choose(exact, choice_rule::published), 2U);
  EXPECT_EQ(choose(exact, choice_rule::mean), 1U);
}

TEST(Choice, OfEqualsTheFirst) {
  const choice_score same{.log_probability = -1, .first = -1, .most_likely = true, .tokens = 1};
  for (const choice_rule rule : {choice_rule::mean, choice_rule::sum, choice_rule::published}) {
    EXPECT_EQ(choose(std::vector<choice_score>(3, same), rule), 0U);
  }
}

// Published values: Newcombe, Statistics in Medicine 17 (1998), table I, method 3; and 8 of 10.
TEST(Wilson, KnownIntervals) {
  const auto expect = [](std::size_t hits, std::size_t trials, double low, double high) {
    const interval bounds = wilson_interval(hits, trials);
    EXPECT_NEAR(bounds.low, low, 5e-5) << hits << " of " << trials;
    EXPECT_NEAR(bounds.high, high, 5e-5) << hits << " of " << trials;
  };
  expect(81, 263, 0.2553, 0.3662);
  expect(15, 148, 0.0624, 0.1605);
  expect(0, 20, 0, 0.1611);
  expect(1, 29, 0.0061, 0.1718);
  expect(8, 10, 0.4902, 0.9433);
  expect(20, 20, 0.8389, 1);
  expect(0, 0, 0, 1);
}

}  // namespace
}  // namespace kvkeep_eval_test
