// Memory units in a file, as kvkeep-eval runs them: the same answers, what is told, what is refused.
#include "tier_choice.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "compare.hpp"
#include "recall.hpp"
#include "report_json.hpp"
#include "support.hpp"
#include "table.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::compare;
using kvkeep_eval::compare_options;
using kvkeep_eval::tier_choice;

compare_options ask(const tier_choice& tiers) {
  compare_options options;
  options.model = bundled_model();
  options.text = data_file("gettysburg.txt");
  options.tokens = 420;
  options.policies = {"inf_llm:sinks=4,window=64,block_size=16,count=2", "streaming_llm:sinks=4,window=60"};
  options.chunk = 100;
  options.tiers = tiers;
  return options;
}

// Room for 3 units of 16 tokens in 4 layers of 3 kv heads with 64 floats for keys and for values.
constexpr std::size_t three_units = std::size_t{3} * 4 * 3 * 2 * 16 * 64 * 4;

TEST(TierChoice, AFileChangesNothingButMemory) {
  const temporary_directory place;
  const auto in_ram = compare(ask({}));
  const auto in_file = compare(ask({three_units, place.path() / "kv", "", 2}));
  ASSERT_EQ(in_file.policies.size(), 2U);
  EXPECT_NEAR(*in_file.policies[0].perplexity, *in_ram.policies[0].perplexity, 1e-5 * *in_ram.policies[0].perplexity);
  EXPECT_LT(in_file.policies[0].kv_bytes, in_ram.policies[0].kv_bytes);
  EXPECT_GT(in_file.policies[0].tiers.file_bytes, 0U);
  EXPECT_GT(in_file.policies[0].tiers.counted.hits, 0U);
  EXPECT_GT(in_file.policies[0].tiers.counted.misses, 0U);
  EXPECT_EQ(in_file.policies[1].tiers.file_bytes, 0U) << "it retrieves nothing";
  EXPECT_TRUE(std::filesystem::is_empty(place.path()));

  const std::string table = to_table(in_file);
  EXPECT_NE(table.find("inf_llm:sinks=4,window=64,block_size=16,count=2: of "), std::string::npos) << table;
  EXPECT_NE(table.find("% were in RAM; "), std::string::npos) << table;
  const auto json = nlohmann::json::parse(to_json(in_file));
  EXPECT_EQ(json.at("policies").at(0).at("tiers").at("misses"), in_file.policies[0].tiers.counted.misses);
  EXPECT_TRUE(json.at("policies").at(1).at("tiers").is_null());
}

TEST(TierChoice, AFileMayHoldFewerBits) {
  const temporary_directory place;
  const auto in_ram = compare(ask({}));
  const auto in_bytes = compare(ask({three_units, place.path() / "kv", "int8", 0}));
  const auto in_floats = compare(ask({three_units, place.path() / "kv", "f32", 0}));
  EXPECT_LT(in_bytes.policies[0].tiers.file_bytes, in_floats.policies[0].tiers.file_bytes / 3);
  EXPECT_NE(*in_bytes.policies[0].perplexity, *in_ram.policies[0].perplexity);
  EXPECT_NEAR(*in_bytes.policies[0].perplexity, *in_ram.policies[0].perplexity, 0.02 * *in_ram.policies[0].perplexity);
}

TEST(TierChoice, RecallReadsFromTheFile) {
  const temporary_directory place;
  kvkeep_eval::recall_options options;
  options.model = bundled_model();
  options.text = data_file("gettysburg.txt");
  options.policies = {"inf_llm:sinks=4,window=64,block_size=16,count=2"};
  options.lengths = {300};
  options.depths = {50};
  options.documents = 2;
  options.kinds = {kvkeep_eval::fact_kind::distinct_key};
  const auto in_ram = run_recall(options);
  options.tiers = {three_units, place.path() / "kv", "", 1};
  const auto in_file = run_recall(options);
  ASSERT_EQ(in_file.results.size(), 1U);
  EXPECT_EQ(in_file.results[0].points[0].answers.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(in_file.results[0].points[0].answers[i].given, in_ram.results[0].points[0].answers[i].given);
  }
  EXPECT_GT(in_file.results[0].tiers.counted.bytes_written, 0U);
}

TEST(TierChoice, RefusesOptionsThatCannotAct) {
  const temporary_directory place;
  expect_failure(
      [&] {
        static_cast<void>(compare(ask({0, place.path() / "kv", "", 0})));
      },
      {"--spill", "need --hot-bytes"});
  expect_failure([&] { static_cast<void>(compare(ask({0, {}, "int8", 0}))); }, {"--spill-codec", "need --hot-bytes"});
  expect_failure([&] { static_cast<void>(compare(ask({0, {}, "", 1}))); }, {"--read-ahead", "need --hot-bytes"});
  expect_failure([&] { static_cast<void>(compare(ask({three_units, {}, "", 0}))); }, {"--hot-bytes needs --spill"});
  expect_failure(
      [&] {
        compare_options options = ask({three_units, place.path() / "kv", "", 0});
        options.policies = {"dense"};
        static_cast<void>(compare(options));
      },
      {"--hot-bytes", "none of these does"});
  expect_failure(
      [&] {
        static_cast<void>(compare(ask({1000, place.path() / "kv", "", 0})));
      },
      {"inf_llm", "tiers.hot_bytes = 1000; allowed: 0, or >= 196608"});
  expect_failure(
      [&] {
        static_cast<void>(compare(ask({three_units, place.path() / "no" / "kv", "", 0})));
      },
      {"inf_llm", "No such file or directory"});
  EXPECT_TRUE(std::filesystem::is_empty(place.path()));
}

}  // namespace
}  // namespace kvkeep_eval_test
