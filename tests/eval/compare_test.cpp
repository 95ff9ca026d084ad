// compare() on the bundled model: what each policy costs, and what it loses however the stream is cut into steps.
#include "compare.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <kvkeep/kvkeep.hpp>

#include "expected.hpp"
#include "fake_model.hpp"
#include "stream.hpp"
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
  compare_options options;
  options.model = bundled_model();
  options.text = data_file("gettysburg.txt");
  options.tokens = tokens;
  options.policies = std::move(policies);
  options.chunk = chunk;
  return options;
}

comparison run(std::size_t tokens, std::vector<std::string> policies, std::size_t chunk) {
  return compare(ask(tokens, std::move(policies), chunk));
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
    expect_close(result.perplexity.value(), expected[i].total);
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
      expect_close(*cut.policies[i].perplexity, *whole.policies[i].perplexity);
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
      expect_close(*result.perplexity, *report.policies.front().perplexity);
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
    expect_close(*report.policies[i].perplexity, *dense.perplexity);
    expect_close(*report.policies[i].perplexity_beyond_trained, *dense.perplexity_beyond_trained);
    EXPECT_EQ(report.policies[i].kept_tokens, 420U);
  }
  EXPECT_LT(*report.policies[3].perplexity, *dense.perplexity * 0.99);  // nothing of this would show if all were alike
}

// Patterns whose layers keep different tokens: what is kept and evicted is the mean, and a token is gone when all let it go.
TEST(Compare, PatternsKeepWhatEachLayerStillReads) {
  const comparison report = run(300,
                                {"dense", "sparse_fixed:block=300,columns=1", "sparse_fixed:block=32,columns=8",
                                 "sparse_strided:stride=31,parts=by_layer", "log_sparse:restart=64"},
                                50);
  const auto gone = [&](std::size_t policy) {
    const auto& lines = report.policies[policy].lifelines;
    return std::count_if(lines.begin(), lines.end(), [](const auto& line) { return line.evicted.has_value(); });
  };
  expect_close(*report.policies[1].perplexity, *report.policies[0].perplexity);
  EXPECT_EQ(report.policies[2].kept_tokens, 300 - 288 + 9 * 8U);
  EXPECT_EQ(report.policies[2].evicted, 9 * 24U);
  EXPECT_GT(gone(2), 0);
  EXPECT_EQ(report.policies[3].kept_tokens, (32 + 300) / 2U) << "half of the four layers keep 32";
  EXPECT_EQ(report.policies[3].evicted, (300 - 32) / 2U);
  EXPECT_EQ(gone(3), 0) << "the others keep every token";
  EXPECT_LE(report.policies[4].kept_tokens, 64U);
  for (std::size_t i = 2; i < 5; ++i) EXPECT_GT(*report.policies[i].perplexity, *report.policies[0].perplexity * 1.01);
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
  const auto report = [&](const progress& at) { seen.push_back({{}, at.policy, at.policies, at.done, at.total}); };
  static_cast<void>(compare(ask(25, {"dense", "sliding_window:window=9"}, 10), {.report = report, .stop = {}}));
  ASSERT_EQ(seen.size(), 6U);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].policy, i / 3 + 1);
    EXPECT_EQ(seen[i].policies, 2U);
    EXPECT_EQ(seen[i].done, std::min<std::size_t>(i % 3 * 10 + 10, 25));
    EXPECT_EQ(seen[i].total, 25U);
  }
}

TEST(Compare, RecomputedPositionsOfASecondImplementation) {
  for (const expected_recompute& expected : read_expected().recomputed) {
    const std::string spec = "recompute:window=" + std::to_string(expected.window);
    SCOPED_TRACE(spec);
    compare_options options = ask(expected.tokens, {"dense", spec}, 100);
    options.recompute_every = expected.every;
    const comparison report = compare(options);
    EXPECT_EQ(report.recompute_every, expected.every);
    EXPECT_EQ(report.baseline, spec);
    const policy_result& oracle = report.policies.at(1);
    EXPECT_TRUE(oracle.oracle);
    EXPECT_EQ(oracle.tokens, expected.tokens);
    EXPECT_EQ(oracle.kept_tokens, expected.window);
    EXPECT_FALSE(oracle.perplexity.has_value()) << "a sample is not to be taken for the stream";
    EXPECT_FALSE(oracle.perplexity_beyond_trained.has_value());
    EXPECT_FALSE(oracle.paired.has_value());
    for (const policy_result& result : report.policies) {
      EXPECT_EQ(result.sampled.value().positions, expected.tokens / expected.every);
    }
    expect_close(oracle.sampled->total, expected.total);
    expect_close(oracle.sampled->beyond_trained.value(), expected.beyond_trained);
  }
}

// A window that holds the whole stream makes both the same.
TEST(Compare, RecomputingEverythingIsDense) {
  compare_options options = ask(200, {"dense", "recompute:window=200"}, 64);
  options.recompute_every = 9;
  const comparison report = compare(options);
  const policy_result& dense = report.policies[0];
  EXPECT_EQ(dense.sampled->positions, 22U);
  expect_close(dense.sampled->total, report.policies[1].sampled->total);
  EXPECT_GT(std::abs(dense.sampled->total - *dense.perplexity), 0.01);  // the sample is a part of the stream
  EXPECT_EQ(dense.paired->positions, 22U);                              // nothing lies beyond the trained length
  EXPECT_NEAR(dense.paired->mean, 0, 1e-5);
  EXPECT_FALSE(dense.paired->standard_error.has_value());
}

TEST(Compare, DifferencesArePairedBeyondTheTrainedLength) {
  compare_options options = ask(420, small_windows, 64);
  for (const std::size_t baseline : {0U, 2U}) {
    options.baseline = baseline == 0 ? "" : small_windows[baseline];
    const comparison report = compare(options);
    EXPECT_EQ(report.baseline, small_windows[baseline]);
    const double reference = *report.policies[baseline].perplexity_beyond_trained;
    for (std::size_t i = 0; i < report.policies.size(); ++i) {
      SCOPED_TRACE(small_windows[i]);
      const policy_result& result = report.policies[i];
      EXPECT_FALSE(result.sampled.has_value());
      ASSERT_EQ(result.paired.has_value(), i != baseline);
      if (i != baseline) {
        EXPECT_EQ(result.paired->positions, 420U - 256U);
        EXPECT_NEAR(result.paired->mean, std::log(*result.perplexity_beyond_trained / reference), 1e-6);
      }
    }
  }
}

TEST(Compare, ACacheThatIsFullEndsItsStreamThere) {
  const comparison report = run(420, {"dense:max_tokens=300", "dense", "sliding_window:window=64"}, 64);
  const comparison shorter = run(300, {"dense"}, 64);
  const policy_result& cut = report.policies[0];
  EXPECT_EQ(cut.tokens, 300U);
  EXPECT_TRUE(cut.full);
  EXPECT_FALSE(report.policies[1].full);
  EXPECT_EQ(cut.kept_tokens, 300U);
  EXPECT_EQ(cut.perplexity, shorter.policies[0].perplexity);
  EXPECT_EQ(cut.perplexity_beyond_trained, shorter.policies[0].perplexity_beyond_trained);
  EXPECT_EQ(report.policies[1].tokens, 420U);
  EXPECT_EQ(report.policies[1].paired->positions, 300U - 256U);
  EXPECT_NEAR(report.policies[1].paired->mean, 0, 1e-6);
}

TEST(Compare, RepeatsATextThatIsTooShort) {
  fake_model model;
  write_file(model.options.text, "13");  // 4 tokens
  model.options.tokens = 11;
  model.options.repeat = true;
  EXPECT_EQ(model.run().policies[0].tokens, 11U);

  const kvkeep_eval::tokenizer pieces(model.file("tokenizer.model"));
  const auto stream = kvkeep_eval::read_stream(pieces, 1, model.options.text, 11, true);
  const auto once = kvkeep_eval::read_stream(pieces, 1, model.options.text, 4, false);
  ASSERT_EQ(stream.size(), 12U);
  ASSERT_EQ(once.size(), 5U);
  for (std::size_t i = 1; i < stream.size(); ++i) EXPECT_EQ(stream[i], once[1 + (i - 1) % 4]);
  EXPECT_EQ(stream[0], 1);

  model.options.tokens = 4;
  model.expect_refused({model.options.text.string(), "4 tokens", "need no repetition"});
}

// Sampled curves are of the sampled positions, 16 to a point.
TEST(Compare, SampledCurvesHoldTheSampledPositions) {
  compare_options options = ask(420, {"dense", "recompute:window=64"}, 64);
  options.recompute_every = 5;
  const comparison report = compare(options);
  for (const policy_result& result : report.policies) {
    std::size_t positions = 0;
    double nats = 0;
    for (std::size_t i = 0; i < result.sampled->loss.size(); ++i) {
      const auto& point = result.sampled->loss[i];
      if (i + 1 < result.sampled->loss.size()) EXPECT_GE(point.count, 16U);
      positions += point.count;
      nats += point.mean * static_cast<double>(point.count);
    }
    EXPECT_EQ(positions, 84U);
    expect_close(std::exp(nats / 84), result.sampled->total);
  }
  EXPECT_GT(report.policies[0].sampled->loss.size(), 2U);
}

TEST(Compare, RecomputesAllOfAShortStreamByDefault) {
  const comparison report = run(10, {"dense", "recompute"}, 4);
  EXPECT_EQ(report.recompute_every, 10U);
  EXPECT_EQ(report.policies[1].sampled->positions, 1U);
}

// The cache is no larger than the stream needs.
TEST(Compare, StepsAreNoLongerThanTheStream) {
  EXPECT_EQ(run(20, {"sliding_window:window=4"}, 512).policies[0].kv_bytes,
            run(20, {"sliding_window:window=4"}, 20).policies[0].kv_bytes);
}

// The second policy meets a token whose embedding is not a number, which the first does not reach.
TEST(Compare, KeepsWhatWasMeasuredWhenAPolicyFails) {
  fake_model model;
  const kvkeep_eval::tokenizer pieces(model.file("tokenizer.model"));
  const auto stream = kvkeep_eval::read_stream(pieces, 1, model.options.text, 5, false);
  std::string embedding(2048 * 4 * 2, '\0');
  const auto at = static_cast<std::size_t>(stream[4]) * 4 * 2;
  embedding.replace(at, 2, "\xff\x7f");
  model.tensors.add("model.embed_tokens.weight", "BF16", {2048, 4}, std::string(2048 * 4 * 2, '\0'));
  model.tensors.add("lm_head.weight", "BF16", {2048, 4}, std::string(2048 * 4 * 2, '\0'));
  model.tensors.add("model.embed_tokens.weight", "BF16", {2048, 4}, embedding);
  model.config["tie_word_embeddings"] = "false";
  model.write_config();
  model.write_weights();
  model.options.policies = {"dense:max_tokens=2", "sliding_window:window=2", "dense"};
  model.options.chunk = 1;
  const comparison report = model.run();
  ASSERT_EQ(report.policies.size(), 1U);
  EXPECT_EQ(report.policies[0].spec, "dense:max_tokens=2");
  EXPECT_EQ(report.error, "policy sliding_window:window=2: the loss at position 4 is not finite");
  EXPECT_FALSE(report.interrupted);
}

// Stopped in its second policy: the first is whole, the second as far as it came, the third not there.
TEST(Compare, StopsWithWhatItHas) {
  compare_options options = ask(100, {"dense", "sliding_window:window=9", "lm_infinite:sinks=4,window=9"}, 10);
  std::size_t steps = 0;
  const comparison report =
      compare(options, {.report = [&](const progress&) { ++steps; }, .stop = [&] { return steps >= 13; }});
  EXPECT_TRUE(report.interrupted);
  ASSERT_EQ(report.policies.size(), 2U);
  EXPECT_EQ(report.policies[0].tokens, 100U);
  EXPECT_EQ(report.policies[1].tokens, 30U);
  EXPECT_EQ(report.policies[1].perplexity, run(30, {"sliding_window:window=9"}, 10).policies[0].perplexity);

  const comparison nothing = compare(options, {.report = {}, .stop = [] { return true; }});
  EXPECT_TRUE(nothing.interrupted);
  EXPECT_TRUE(nothing.policies.empty());
}

// The curve is the whole stream, once.
TEST(Compare, ACurveHoldsEveryLoss) {
  const comparison report = run(420, {"dense", "sliding_window:window=64"}, 64);
  for (const policy_result& result : report.policies) {
    double nats = 0;
    std::size_t positions = 0;
    for (const auto& point : result.loss) {
      EXPECT_EQ(point.position, positions);
      positions += point.count;
      nats += point.mean * static_cast<double>(point.count);
      EXPECT_GT(point.step_ms, 0);
    }
    EXPECT_EQ(positions, 420U);
    expect_close(std::exp(nats / 420), *result.perplexity);
    EXPECT_GT(result.step_ms_p50, 0);
    EXPECT_GE(result.step_ms_p99, result.step_ms_p50);
  }
}

// Steps of one token: a token leaves when the window has passed it, a sink never.
TEST(Compare, WatchesWhatIsEvictedWhen) {
  const comparison report = run(100, {"dense", "sliding_window:window=20", "streaming_llm:sinks=4,window=16"}, 1);
  EXPECT_EQ(report.policies[0].evicted, 0U);
  EXPECT_EQ(report.policies[1].evicted, 80U);
  EXPECT_EQ(report.policies[2].evicted, 80U);
  for (const policy_result& result : report.policies) {
    ASSERT_EQ(result.lifelines.size(), 100U) << result.spec;
    for (std::size_t token = 0; token < 100; ++token) {
      SCOPED_TRACE(result.spec + ", token " + std::to_string(token));
      const auto& line = result.lifelines[token];
      EXPECT_EQ(line.token, token);
      const bool streaming = result.spec.starts_with("streaming_llm");
      const std::size_t window = streaming ? 16 : 20;
      const bool leaves = result.spec != "dense" && !(streaming && token < 4) && token + window < 100;
      ASSERT_EQ(line.evicted.has_value(), leaves);
      if (leaves) EXPECT_EQ(*line.evicted, token + window + 1);
    }
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
    expect_close(*result.perplexity, 2048);
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
  const double tied = model.run().policies[0].perplexity.value();

  model.tensors.add("lm_head.weight", "BF16", {2048, 4}, std::string(2048 * 4 * 2, '\0'));
  model.write_weights();
  EXPECT_EQ(model.run().policies[0].perplexity, tied) << "lm_head.weight was used although the output is tied";
  model.config["tie_word_embeddings"] = "false";
  model.write_config();
  model.write_weights();
  expect_close(model.run().policies[0].perplexity.value(), 2048);
  EXPECT_NE(tied, 2048);
}

}  // namespace
}  // namespace kvkeep_eval_test
