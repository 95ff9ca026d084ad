// compare() on the bundled model: what each policy costs, and what it loses however the stream is cut into steps.
#include "compare.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <kvkeep/kvkeep.hpp>

#include "expected.hpp"
#include "fake_model.hpp"
#include "llama_config.hpp"
#include "support.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::compare;
using kvkeep_eval::compare_options;
using kvkeep_eval::comparison;
using kvkeep_eval::policy_result;
using kvkeep_eval::progress;

constexpr double tolerance = 1e-5;  // relative; single precision is left with 1e-6

const std::vector<std::string> small_windows{"dense", "sliding_window:window=64", "streaming_llm:sinks=4,window=60",
                                             "lm_infinite:sinks=4,window=60"};

compare_options ask(std::size_t tokens, std::vector<std::string> policies, std::size_t chunk) {
  return {.model = bundled_model(),
          .text = data_file("gettysburg.txt"),
          .tokens = tokens,
          .policies = std::move(policies),
          .chunk = chunk};
}

comparison run(std::size_t tokens, std::vector<std::string> policies, std::size_t chunk) {
  return compare(ask(tokens, std::move(policies), chunk), nullptr);
}

void expect_close(double value, double expected) { EXPECT_NEAR(value, expected, tolerance * expected); }

TEST(Compare, PerplexitiesOfASecondImplementation) {
  const std::vector<expected_perplexity> expected = read_expected().perplexities;
  std::vector<std::string> specs;
  for (const expected_perplexity& p : expected) specs.push_back(p.spec);

  const comparison report = run(expected.front().tokens, specs, 100);

  EXPECT_EQ(report.model, "model");
  EXPECT_EQ(report.tokens, expected.front().tokens);
  EXPECT_EQ(report.trained_length, 256U);
  EXPECT_FALSE(report.machine.empty());
  ASSERT_EQ(report.policies.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE(expected[i].spec);
    const policy_result& result = report.policies[i];
    EXPECT_EQ(result.spec, expected[i].spec);
    expect_close(result.perplexity, expected[i].total);
    ASSERT_TRUE(result.perplexity_beyond_trained.has_value());
    expect_close(*result.perplexity_beyond_trained, expected[i].beyond_trained);
    EXPECT_GT(result.tokens_per_second, 0);
  }
}

TEST(Compare, StepsOfAnySizeGiveTheSamePerplexity) {
  const comparison whole = run(420, small_windows, 512);
  for (const std::size_t chunk : {1U, 7U}) {
    const comparison cut = run(420, small_windows, chunk);
    for (std::size_t i = 0; i < small_windows.size(); ++i) {
      SCOPED_TRACE(small_windows[i] + " in steps of " + std::to_string(chunk));
      expect_close(cut.policies[i].perplexity, whole.policies[i].perplexity);
      expect_close(*cut.policies[i].perplexity_beyond_trained, *whole.policies[i].perplexity_beyond_trained);
      EXPECT_EQ(cut.policies[i].kept_tokens, whole.policies[i].kept_tokens);
    }
  }
}

TEST(Compare, WindowsThatTheStreamDoesNotFillChangeNothing) {
  const std::vector<std::string> specs{"dense", "sliding_window:window=256", "streaming_llm:sinks=4,window=252",
                                       "lm_infinite:sinks=4,window=252"};
  for (const std::size_t chunk : {1U, 32U}) {
    const comparison report = run(252, specs, chunk);
    for (const policy_result& result : report.policies) {
      SCOPED_TRACE(result.spec);
      expect_close(result.perplexity, report.policies.front().perplexity);
      EXPECT_EQ(result.kept_tokens, 252U);
      EXPECT_FALSE(result.perplexity_beyond_trained.has_value());
    }
  }
}

TEST(Compare, ASlidingWindowAsLongAsTheStreamIsDense) {
  const comparison report =
      run(420, {"dense", "sliding_window:window=420", "sliding_window:window=5000", "sliding_window:window=300"}, 64);
  const policy_result& dense = report.policies[0];
  for (const std::size_t i : {1U, 2U}) {
    expect_close(report.policies[i].perplexity, dense.perplexity);
    expect_close(*report.policies[i].perplexity_beyond_trained, *dense.perplexity_beyond_trained);
    EXPECT_EQ(report.policies[i].kept_tokens, 420U);
  }
  EXPECT_LT(report.policies[3].perplexity, dense.perplexity * 0.99);  // nothing of this would show if all were alike
}

// The bytes are the whole cache's: blocks of 16 tokens, for what is kept and one step.
TEST(Compare, KeptTokensAndBytesAreTheLibrarys) {
  struct kept {
    std::string spec;
    std::size_t capacity;
  };
  const std::vector<kept> expected{{"dense", 300},
                                   {"dense:max_tokens=1000", 1000},
                                   {"sliding_window:window=33", 33},
                                   {"streaming_llm:sinks=4,window=60", 64},
                                   {"streaming_llm:sinks=0,window=1", 1},
                                   {"lm_infinite:sinks=10,window=100", 110}};
  std::vector<std::string> specs;
  for (const kept& k : expected) specs.push_back(k.spec);
  for (const std::size_t chunk : {16U, 100U}) {
    const comparison report = run(300, specs, chunk);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      SCOPED_TRACE(expected[i].spec + " in steps of " + std::to_string(chunk));
      const policy_result& result = report.policies[i];
      EXPECT_EQ(result.kept_tokens, std::min<std::size_t>(expected[i].capacity, 300));

      const auto bytes = kvkeep::try_cache_bytes({.layers = 4, .query_heads = 6, .kv_heads = 3, .head_dim = 64},
                                                 kvkeep::parse_policy(expected[i].spec, {.max_tokens = 300}),
                                                 {.positions = kvkeep::rope{.theta = 10000.0}, .max_step = chunk});
      ASSERT_TRUE(bytes);
      EXPECT_EQ(result.kv_bytes, bytes->keys + bytes->values);
      const std::size_t blocks = (expected[i].capacity + chunk + 15) / 16;
      EXPECT_EQ(result.kv_bytes, blocks * 16 * (4 * 3 * 64) * 2 * sizeof(float));
    }
  }
}

TEST(Compare, ReportsProgressAfterEveryStep) {
  std::vector<progress> seen;
  static_cast<void>(compare(ask(25, {"dense", "sliding_window:window=9"}, 10), [&](const progress& at) {
    seen.push_back({{}, at.policy, at.policies, at.done, at.total});
  }));
  ASSERT_EQ(seen.size(), 6U);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].policy, i / 3 + 1);
    EXPECT_EQ(seen[i].policies, 2U);
    EXPECT_EQ(seen[i].done, std::min<std::size_t>(i % 3 * 10 + 10, 25));
    EXPECT_EQ(seen[i].total, 25U);
  }
}

// Weights of 0 make all tokens equally likely.
TEST(Compare, AModelThatKnowsNothingHasThePerplexityOfItsVocabulary) {
  fake_model model;
  model.options.tokens = 9;
  model.options.policies = {"dense", "sliding_window:window=2"};
  const comparison report = model.run();
  EXPECT_EQ(report.model, model.directory().filename().string());
  for (const policy_result& result : report.policies) {
    expect_close(result.perplexity, 2048);
    ASSERT_TRUE(result.perplexity_beyond_trained.has_value());  // position 8
    expect_close(*result.perplexity_beyond_trained, 2048);
  }
  model.options.tokens = 8;
  EXPECT_FALSE(model.run().policies[0].perplexity_beyond_trained.has_value());
}

TEST(Compare, AnOutputOfItsOwnIsUsedInsteadOfTheEmbedding) {
  fake_model model;
  std::string ones;
  for (std::size_t i = 0; i < 2048 * 4; ++i) ones += i % 8 < 4 ? std::string("\x80\x3f", 2) : std::string(2, '\0');
  model.tensors.add("lm_head.weight", "BF16", {2048, 4}, ones);
  model.tensors.add("model.norm.weight", "BF16", {4}, ones.substr(0, 8));
  model.tensors.add("model.embed_tokens.weight", "BF16", {2048, 4}, ones);
  model.write_weights();
  const double tied = model.run().policies[0].perplexity;

  model.tensors.add("lm_head.weight", "BF16", {2048, 4}, std::string(2048 * 4 * 2, '\0'));
  model.write_weights();
  EXPECT_EQ(model.run().policies[0].perplexity, tied) << "lm_head.weight was used although the output is tied";
  model.config["tie_word_embeddings"] = "false";
  model.write_config();
  model.write_weights();
  expect_close(model.run().policies[0].perplexity, 2048);
  EXPECT_NE(tied, 2048);
}

}  // namespace
}  // namespace kvkeep_eval_test
