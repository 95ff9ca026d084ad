// Greedy generation: every token is the most likely one, and the text comes in whole characters.
#include "generate.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint.hpp"
#include "fake_model.hpp"
#include "made_model.hpp"
#include "policy_step.hpp"
#include "support.hpp"
#include "text.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::checkpoint;
using kvkeep_eval::generate_options;
using kvkeep_eval::index;
using kvkeep_eval::llama;
using kvkeep_eval::matrix;
using kvkeep_eval::token;

generate_options ask(std::string prompt, std::size_t tokens, std::string policy = "dense") {
  return {.model = bundled_model(),
          .tokenizer = {},
          .prompt = std::move(prompt),
          .tokens = tokens,
          .policy = std::move(policy),
          .threads = 1};
}

std::vector<std::string> parts_of(const generate_options& options) {
  std::vector<std::string> parts;
  kvkeep_eval::generate(options, [&](std::string_view part) { parts.emplace_back(part); });
  return parts;
}

std::string text_of(const generate_options& options) {
  std::string out;
  for (const std::string& part : parts_of(options)) out += part;
  return out;
}

// The tokens after the prompt, by computing the whole stream anew for every one of them.
std::string slow_text(const std::string& prompt, std::size_t tokens) {
  const checkpoint source(bundled_model());
  const llama model = source.load(1);
  std::vector<token> stream = source.pieces().encode_prompt(prompt);
  stream.insert(stream.begin(), source.begin_of_stream());
  for (std::size_t i = 0; i < tokens; ++i) {
    const auto policy = kvkeep::parse_policy("dense", {.max_tokens = stream.size()});
    auto cache = kvkeep_eval::make_model_cache(source.config(), policy, stream.size(), 1, "dense");
    const matrix states = kvkeep_eval::run_model_step(model, cache, stream, "dense");
    matrix logits;
    model.logits(states, stream.size() - 1, 1, logits);
    Eigen::Index best = 0;
    logits.row(0).maxCoeff(&best);
    stream.push_back(static_cast<token>(best));
  }
  return source.pieces().decode(std::span(stream).subspan(1));
}

TEST(Generate, EveryTokenIsTheMostLikelyOne) {
  for (const char* const prompt : {"", "In the beginning", "And he said,\nLet"}) {
    SCOPED_TRACE(prompt);
    EXPECT_EQ(text_of(ask(prompt, 12)), slow_text(prompt, 12));
  }
}

TEST(Generate, PoliciesAndThreads) {
  const std::string text = text_of(ask("In the beginning", 30));
  EXPECT_TRUE(text.starts_with("In the beginning"));
  EXPECT_EQ(text_of(ask("In the beginning", 30, "streaming_llm:sinks=4,window=60")), text);
  EXPECT_NE(text_of(ask("In the beginning", 30, "sliding_window:window=2")), text);
  generate_options threads = ask("In the beginning", 30);
  threads.threads = 3;
  EXPECT_EQ(text_of(threads), text);
}

// A model in which each token of `order` leads to the next one, and any other to token 0.
class chain_model {
 public:
  explicit chain_model(const std::vector<token>& order) {
    constexpr std::size_t vocabulary = 259;
    kvkeep_eval::llama_config config;
    config.layers = 1;
    config.hidden = 264;  // a component for every token
    config.feed_forward = 1;
    config.query_heads = 1;
    config.kv_heads = 1;
    config.head_dim = 264;
    config.vocabulary = vocabulary;
    config.trained_length = 64;
    kvkeep_eval::llama_weights weights = made_weights(config);
    for (auto& layer : weights.layers) {
      layer.o.setZero();
      layer.down.setZero();
    }
    weights.final_norm.setOnes();
    weights.embedding.setIdentity();
    weights.head.setZero();
    for (std::size_t i = 0; i + 1 < order.size(); ++i) weights.head(order[i + 1], order[i]) = 1;
    write_file(options.model = directory_.path() / "m", llama2c_bytes(llama2c_form::legacy, config, weights));
    write_file(options.tokenizer = directory_.path() / "t", llama2c_tokenizer_bytes(llama2c_pieces({})));
    options.tokens = 50;
  }

  generate_options options;

 private:
  temporary_directory directory_;
};

// The bytes of U+20AC, then "!" and BOS or EOS.
TEST(Generate, StopsBeforeBosAndEosAndShowsWholeCharacters) {
  for (const token end : {1, 2}) {
    const chain_model model({1, 3 + 0xe2, 3 + 0x82, 3 + 0xac, 3 + '!', end});
    std::vector<std::string> parts = parts_of(model.options);
    parts.erase(std::remove(parts.begin(), parts.end(), ""), parts.end());
    EXPECT_EQ(parts, (std::vector<std::string>{"\xe2\x82\xac", "!"})) << end;
  }
}

TEST(Generate, BytesThatNeverMakeACharacterAreNotKeptBack) {
  const chain_model model({1, 3 + 0xe2, 3 + 0x82, 3 + 'a', 1});
  const std::string text = text_of(model.options);
  EXPECT_TRUE(text.ends_with("a")) << text;
  EXPECT_EQ(kvkeep_eval::first_invalid_utf8(text), std::nullopt);
  const chain_model cut({1, 3 + 'a', 3 + 0xe2, 3 + 0x82, 1});
  EXPECT_TRUE(text_of(cut.options).starts_with("a\xef\xbf\xbd")) << text_of(cut.options);
}

TEST(Generate, NoMoreTokensThanAskedFor) {
  chain_model model({1, 3 + 'a', 3 + 'b', 3 + 'c', 3 + 'a'});
  for (const std::size_t tokens : {1U, 2U, 3U}) {
    model.options.tokens = tokens;
    EXPECT_EQ(text_of(model.options), std::string("abc").substr(0, tokens));
  }
}

TEST(Generate, BadRequests) {
  const auto expect_refused = [](const generate_options& options, const std::vector<std::string>& named) {
    bool begun = false;
    expect_failure([&] { generate(options, [&](std::string_view) { begun = true; }); }, named);
    EXPECT_FALSE(begun);
  };
  expect_refused(ask("", 0), {"tokens is 0; it must be from 1 to"});
  expect_refused(ask("", ~std::size_t{0}), {"tokens is 18446744073709551615; it must be from 1 to"});
  expect_refused(ask("ab\xff", 3), {"the prompt is not UTF-8 text (byte 2)"});
  expect_refused(ask("", 3, "nosuch"), {"policy nosuch: ", "unknown policy"});
  expect_refused(ask("", 3, "dense:max_tokens=2"),
                 {"policy dense:max_tokens=2: max_tokens = 2; the stream has 3 tokens"});
  EXPECT_NO_THROW(static_cast<void>(text_of(ask("", 3, "dense:max_tokens=3"))));
  generate_options threads = ask("", 3);
  threads.threads = 0;
  expect_refused(threads, {"threads is 0; it must be from 1 to 1024"});
  generate_options nowhere = ask("", 3);
  nowhere.model = "nowhere";
  expect_refused(nowhere, {"nowhere: no such model"});
}

TEST(Generate, LogitsThatAreNoNumbers) {
  fake_model model;
  model.tensors.add("model.norm.weight", "BF16", {4}, std::string(8, '\xff'));
  model.write_weights();
  generate_options options = ask("", 3);
  options.model = model.directory();
  expect_failure([&] { static_cast<void>(text_of(options)); }, {"the model's logits are not finite"});
}

}  // namespace
}  // namespace kvkeep_eval_test
