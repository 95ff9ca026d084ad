// Models with random weights: that they load, that a seed is a model, and which shapes are refused.
#include "random_model.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "compare.hpp"
#include "support.hpp"

namespace kvkeep_eval_test {
namespace {

namespace fs = std::filesystem;
using kvkeep_eval::random_model_options;
using kvkeep_eval::write_random_model;

random_model_options small(const fs::path& out) {
  random_model_options options;
  options.out = out;
  options.tokenizer = bundled_model() / "tokenizer.model";
  options.layers = 2;
  options.hidden = 24;
  options.feed_forward = 40;
  options.query_heads = 6;
  options.kv_heads = 3;
  options.head_dim = 8;
  options.trained_length = 100;
  return options;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(RandomModel, LoadsAndKnowsNothing) {
  const temporary_directory directory;
  const random_model_options options = small(directory.path() / "model");
  const std::size_t layer = 24 + 48 * 24 + 2 * 24 * 24 + 24 * 48 + 24 + 3 * 40 * 24;
  EXPECT_EQ(write_random_model(options), 2048 * 24 + 2 * layer + 24);

  kvkeep_eval::compare_options comparison;
  comparison.model = options.out;
  comparison.text = data_file("gettysburg.txt");
  comparison.tokens = 120;
  comparison.policies = {"dense"};
  const auto report = compare(comparison);
  EXPECT_EQ(report.trained_length, 100U);
  const double perplexity = report.policies[0].perplexity.value();
  EXPECT_GT(perplexity, 1024);  // guessing among 2048 tokens
  EXPECT_LT(perplexity, 2 * 2048);
}

TEST(RandomModel, IsItsSeed) {
  const temporary_directory directory;
  random_model_options options = small(directory.path() / "a");
  write_random_model(options);
  options.out = directory.path() / "b";
  write_random_model(options);
  options.out = directory.path() / "c";
  options.seed = 2;
  write_random_model(options);
  const auto weights = [&](const char* name) { return contents(directory.path() / name / "model.safetensors"); };
  EXPECT_EQ(weights("a"), weights("b"));
  EXPECT_NE(weights("a"), weights("c"));
}

TEST(RandomModel, LeavesNothingBehindWhenItFails) {
  const temporary_directory directory;
  random_model_options options = small(directory.path() / "model");
  const auto refused = [&](const std::vector<std::string>& named) {
    expect_failure([&] { write_random_model(options); }, named);
    EXPECT_TRUE(fs::is_empty(directory.path()));
  };
  options.kv_heads = 4;
  refused({"num_attention_heads is 6", "num_key_value_heads, 4"});
  options = small(directory.path() / "model");
  options.layers = 0;
  refused({"num_hidden_layers is 0"});
  options = small(directory.path() / "model");
  options.head_dim = 7;
  refused({"head_dim is 7"});
  options = small(directory.path() / "no" / "model");
  refused({"model: No such file"});
  options = small(directory.path() / "model");
  options.tokenizer = directory.path() / "none";
  refused({"none: no such file"});

  options = small(directory.path() / "model");
  EXPECT_EQ(write_random_model(options, [] { return true; }), 0U);
  EXPECT_TRUE(fs::is_empty(directory.path()));

  options = small(directory.path());
  write_file(directory.path() / "mine", "kept");
  expect_failure([&] { write_random_model(options); }, {"exists already"});
  EXPECT_EQ(contents(directory.path() / "mine"), "kept");
}

}  // namespace
}  // namespace kvkeep_eval_test
