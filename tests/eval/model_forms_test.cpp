// Logits of models of every form, rotary scaling and shape, against numbers from a second implementation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <kvkeep/kvkeep.hpp>

#include "checkpoint.hpp"
#include "generate.hpp"
#include "made_model.hpp"
#include "policy_step.hpp"
#include "support.hpp"
#include "text.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::checkpoint;
using kvkeep_eval::index;
using kvkeep_eval::llama;
using kvkeep_eval::matrix;
using kvkeep_eval::token;

constexpr double tolerance = 1e-4;

// One case of data/expected_forms.txt.
struct expected_form {
  struct logit {
    std::size_t position = 0;
    token id = 0;
    double value = 0;
  };

  std::string name;
  std::string config;  // JSON; empty for a published model
  std::vector<token> tokens;
  std::vector<logit> logits;
};

std::vector<expected_form> read_forms() {
  std::ifstream file(data_file("expected_forms.txt"));
  std::vector<expected_form> out;
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string kind;
    line >> kind >> std::ws;
    if (kind == "case") {
      line >> out.emplace_back().name;
    } else if (kind == "config") {
      std::getline(line, out.back().config);
    } else if (kind == "tokens") {
      for (token id = 0; line >> id;) out.back().tokens.push_back(id);
    } else {
      expected_form::logit logit;
      for (line >> logit.position; line >> logit.id >> logit.value;) out.back().logits.push_back(logit);
    }
  }
  if (out.size() != 17) throw std::runtime_error("expected_forms.txt is missing or incomplete");
  return out;
}

// The logits after every token under `dense`, in steps of `chunk`; [tokens, vocabulary].
matrix logits_of(const llama& model, std::span<const token> tokens, std::size_t chunk) {
  const auto policy = kvkeep::parse_policy("dense", {.max_tokens = tokens.size()});
  auto cache = kvkeep_eval::make_model_cache(model.config(), policy, chunk, model.threads(), "dense");
  matrix out(index(tokens.size()), index(model.config().vocabulary));
  for (std::size_t first = 0; first < tokens.size(); first += chunk) {
    const std::size_t count = std::min(chunk, tokens.size() - first);
    matrix logits;
    const matrix states = kvkeep_eval::run_model_step(model, cache, tokens.subspan(first, count), "dense");
    model.logits(states, 0, count, logits);
    out.middleRows(index(first), index(count)) = logits;
  }
  return out;
}

// Records the largest difference, so that it can be read from the test's report.
void expect_logits(const matrix& logits, const expected_form& expected) {
  ASSERT_EQ(expected.logits.size(), 40U);
  double worst = 0;
  for (const auto& [position, id, value] : expected.logits) {
    const double difference = std::abs(static_cast<double>(logits(index(position), id)) - value);
    worst = std::max(worst, difference);
    EXPECT_LE(difference, tolerance) << "token " << id << " after position " << position;
  }
  ::testing::Test::RecordProperty(expected.name, std::to_string(worst * 1e6) + "e-6");
}

/// llama2.c's published checkpoint of 260,000 weights with its tokenizer and its greedy continuation of BOS.
std::filesystem::path stories260k() { return data_file("stories260K"); }

TEST(ModelForms, LogitsOfEveryScalingAndShape) {
  std::vector<matrix> all;
  for (const expected_form& expected : read_forms()) {
    if (expected.config.empty()) continue;
    SCOPED_TRACE(expected.name);
    const temporary_directory directory;
    write_hugging_face(directory.path(), expected.config);
    const llama model = checkpoint(directory.path()).load(1);
    for (const std::size_t chunk : {48U, 5U, 1U}) expect_logits(logits_of(model, expected.tokens, chunk), expected);
    all.push_back(logits_of(model, expected.tokens, 48));
  }
  // The last logits of every two cases differ, so that no scaling passes for another.
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_GT((all[i].row(47) - all[j].row(47)).cwiseAbs().maxCoeff(), 20 * tolerance) << i << " and " << j;
    }
  }
}

// A llama2.c checkpoint holds the rows of q and k in another order, and its rotary pairs lie side by side.
TEST(ModelForms, Llama2cGivesTheLogitsOfTheSameWeights) {
  for (const bool tied : {true, false}) {
    for (const llama2c_form form : {llama2c_form::legacy, llama2c_form::version_1}) {
      SCOPED_TRACE(testing::Message() << "tied " << tied << ", form " << static_cast<int>(form));
      const temporary_directory directory;
      const std::string config = std::string(R"({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 3,
          "hidden_size": 24, "intermediate_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2,
          "vocab_size": 263, "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "bos_token_id": 1,
          "tie_word_embeddings": )") +
                                 (tied ? "true}" : "false}");
      write_hugging_face(directory.path(), config);
      const checkpoint theirs(directory.path());
      write_file(directory.path() / "m.bin", llama2c_bytes(form, theirs.config(), made_weights(theirs.config())));
      const checkpoint ours(directory.path() / "m.bin", directory.path() / "tokenizer.model");

      EXPECT_EQ(ours.name(), "m.bin");
      EXPECT_EQ(ours.begin_of_stream(), 1);
      EXPECT_EQ(ours.config().trained_length, 16U);
      EXPECT_EQ(ours.config().tied_output, tied);
      const std::vector<token> tokens{1, 7, 260, 31, 7, 7, 262, 0, 99, 140, 3, 250, 12, 1, 77, 201, 202, 203};
      const matrix expected = logits_of(theirs.load(1), tokens, tokens.size());
      const matrix logits = logits_of(ours.load(1), tokens, 7);
      EXPECT_LT((logits - expected).cwiseAbs().maxCoeff(), 1e-5);
    }
  }
}

TEST(ModelForms, AnyNumberOfThreadsGivesTheSameBits) {
  const std::vector<token> tokens{1, 492, 508, 913, 374, 279, 1876, 742, 464, 1960, 361, 1704, 1033, 1160, 351};
  const checkpoint bundled(bundled_model());
  const llama alone = bundled.load(1);
  EXPECT_EQ(alone.threads(), 1U);
  for (const std::size_t chunk : {15U, 4U, 1U}) {
    const matrix expected = logits_of(alone, tokens, chunk);
    for (const std::size_t threads : {2U, 3U, 8U}) {
      const llama model = bundled.load(threads);
      EXPECT_EQ(model.threads(), threads);
      EXPECT_EQ(logits_of(model, tokens, chunk), expected) << threads << " threads in steps of " << chunk;
    }
  }
  for (const std::size_t threads : {std::size_t{0}, std::size_t{1025}}) {
    expect_failure([&] { static_cast<void>(bundled.load(threads)); },
                   {"threads is " + std::to_string(threads), "from 1 to 1024"});
  }
}

TEST(ModelForms, LogitsOfStories260K) {
  const std::filesystem::path directory = stories260k();
  const llama model = checkpoint(directory / "stories260K.bin", directory / "tok512.bin").load(1);
  const expected_form expected = read_forms().back();
  ASSERT_EQ(expected.name, "stories260K");
  expect_logits(logits_of(model, expected.tokens, 48), expected);
  expect_logits(logits_of(model, expected.tokens, 1), expected);
}

TEST(ModelForms, Stories260KTellsThePublishedStory) {
  const std::filesystem::path directory = stories260k();
  std::string story;
  kvkeep_eval::generate({.model = directory / "stories260K.bin",
                         .tokenizer = directory / "tok512.bin",
                         .prompt = "",
                         .tokens = 256,
                         .threads = 2},
                        [&](std::string_view text) { story += text; });
  EXPECT_EQ(story + "\n", kvkeep_eval::read_text(directory / "greedy_sample.txt"));
}

}  // namespace
}  // namespace kvkeep_eval_test
