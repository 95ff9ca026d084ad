// Files that are not there, texts that are none, and requests that cannot be met: one clear failure each.
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "fake_model.hpp"
#include "support.hpp"
#include "text.hpp"

namespace kvkeep_eval_test {
namespace {

TEST(BadInput, AWholeModelRuns) {
  const fake_model model;
  EXPECT_NO_THROW(static_cast<void>(model.run()));
}

TEST(BadInput, NoModel) {
  fake_model model;
  model.options.model = model.file("nowhere");
  model.expect_refused({model.file("nowhere").string() + ": no such model"});
  model.options.model = model.file("config.json");
  model.expect_refused({model.file("config.json").string() + ": is not a llama2.c checkpoint"});
}

TEST(BadInput, MissingFiles) {
  for (const char* const name : {"config.json", "model.safetensors", "tokenizer.model", "text.txt"}) {
    SCOPED_TRACE(name);
    const fake_model model;
    std::filesystem::remove(model.file(name));
    model.expect_refused({model.file(name).string() + ": ", "o such file"});  // "no", or "No" from the system
  }
}

TEST(BadInput, DirectoriesInsteadOfFiles) {
  for (const char* const name : {"config.json", "model.safetensors", "tokenizer.model", "text.txt"}) {
    SCOPED_TRACE(name);
    const fake_model model;
    std::filesystem::remove(model.file(name));
    std::filesystem::create_directory(model.file(name));
    model.expect_refused({model.file(name).string() + ": ", "directory"});
  }
}

TEST(BadInput, NotATokenizer) {
  const fake_model model;
  const std::string path = model.file("tokenizer.model").string();
  const std::string whole = kvkeep_eval::read_file(path);
  for (const std::string& bytes :
       {std::string(), std::string(500, 'h'), std::string("{\"model\": {}}"), whole.substr(0, whole.size() / 2)}) {
    SCOPED_TRACE(bytes.substr(0, 8));
    write_file(path, bytes);
    model.expect_refused({path + ": is not a sentencepiece model"});
  }
}

TEST(BadInput, ATokenizerOfAnotherModel) {
  for (const char* const size : {"2047", "2049"}) {
    fake_model model;
    model.config["vocab_size"] = size;
    model.write_config();
    model.expect_refused({model.file("tokenizer.model").string() + ": ", "2048 pieces", "vocab_size", size});
  }
}

TEST(BadInput, NoText) {
  const fake_model model;
  for (const char* const text : {"", " ", " \n\n\t\r\n "}) {
    write_file(model.options.text, text);
    model.expect_refused({model.options.text.string() + ": has no text"});
  }
}

TEST(BadInput, NotUtf8) {
  const fake_model model;
  for (const char* const text : {"abc \xff def", "abc \xe2\x82", "abc \xed\xa0\x80", "abc \xc0\xaf", "abc \x80",
                                 "abc \xf4\x90\x80\x80", "abc \xe0\x9f\xbf", "abc \xf0\x8f\xbf\xbf", "abc \xc3("}) {
    write_file(model.options.text, text);
    model.expect_refused({model.options.text.string() + ": is not UTF-8 text", "byte 4 "});
  }
}

TEST(BadInput, EveryLengthOfCharacterIsUtf8) {
  EXPECT_EQ(kvkeep_eval::first_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(
      kvkeep_eval::first_invalid_utf8("a\x7f \xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf"),
      std::nullopt);
  EXPECT_EQ(kvkeep_eval::first_invalid_utf8("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"), std::nullopt);
}

TEST(BadInput, NoTokens) {
  fake_model model;
  model.options.tokens = 0;
  model.expect_refused({"tokens is 0"});
}

TEST(BadInput, MoreTokensThanTheTextHas) {
  fake_model model;
  write_file(model.options.text, "13");  // a blank and two digits, then the end of the line
  model.options.tokens = 4;
  EXPECT_NO_THROW(static_cast<void>(model.run()));
  for (const std::size_t tokens : {std::size_t{5}, std::size_t{100}, std::numeric_limits<std::size_t>::max()}) {
    model.options.tokens = tokens;
    model.expect_refused(
        {model.options.text.string() + ": has 4 tokens; " + std::to_string(tokens) + " were asked for"});
  }
}

TEST(BadInput, ChunkOutOfRange) {
  fake_model model;
  for (const std::size_t chunk : {std::size_t{0}, std::size_t{513}}) {
    model.options.chunk = chunk;
    model.expect_refused({"chunk is " + std::to_string(chunk), "from 1 to 512"});
  }
  model.options.chunk = 512;
  EXPECT_NO_THROW(static_cast<void>(model.run()));
}

TEST(BadInput, Policies) {
  struct bad_policy {
    const char* spec;
    std::vector<std::string> named;
  };
  const std::vector<bad_policy> cases{
      {"nosuch", {"unknown policy 'nosuch'", "dense", "sliding_window", "streaming_llm", "lm_infinite", ", recompute"}},
      {"Dense", {"unknown policy 'Dense'"}},
      {"sliding_window:window=0", {"window = 0"}},
      {"sliding_window:window=-3", {"window = -3"}},
      {"sliding_window:window=abc", {"window = abc"}},
      {"streaming_llm:sinks=4,window=252,x=1", {"no parameter 'x'", "sinks, window"}},
      {"streaming_llm:sinks=4,sinks=5", {"sinks is given twice"}},
      {"dense:window=4", {"no parameter 'window'", "max_tokens"}},
      {"dense:max_tokens=0", {"max_tokens = 0"}},
      {"recompute:window=0", {"window = 0"}},
      {"recompute:sinks=1", {"no parameter 'sinks'", "window"}},
      {"recomputed", {"unknown policy 'recomputed'"}}};
  fake_model model;
  for (const bad_policy& bad : cases) {
    SCOPED_TRACE(bad.spec);
    model.options.policies = {"dense", bad.spec};
    std::vector<std::string> named{"policy " + std::string(bad.spec) + ": "};
    named.insert(named.end(), bad.named.begin(), bad.named.end());
    model.expect_refused(named);
  }
  model.options.policies = {"dense:max_tokens=5"};
  EXPECT_NO_THROW(static_cast<void>(model.run()));
  model.options.policies.clear();
  model.expect_refused({"no policies are given"});
}

TEST(BadInput, RecomputeEvery) {
  fake_model model;
  model.options.recompute_every = 3;
  model.expect_refused({"recompute-every is 3", "no recompute is among the policies"});
  model.options.policies = {"dense", "recompute:window=4"};
  EXPECT_EQ(model.run().recompute_every, 3U);
  for (const std::size_t every : {0U, 6U}) {
    model.options.recompute_every = every;
    model.expect_refused({"recompute-every is " + std::to_string(every), "from 1 to tokens, 5"});
  }
}

TEST(BadInput, Baseline) {
  fake_model model;
  model.options.policies = {"dense", "sliding_window:window=3"};
  model.options.baseline = "sliding_window";
  model.expect_refused({"baseline is 'sliding_window'", "not among the policies"});
}

// The last policy is checked before the first has run.
TEST(BadInput, IsFoundBeforeTheFirstStep) {
  for (const char* const spec : {"nosuch", "sliding_window:window=0", "recompute:window=0"}) {
    fake_model model;
    model.options.policies = {"dense", spec};
    bool begun = false;
    expect_failure(
        [&] { static_cast<void>(compare(model.options, {.report = [&](const auto&) { begun = true; }, .stop = {}})); },
        {spec});
    EXPECT_FALSE(begun) << spec;
  }
}

TEST(BadInput, ListsOfPolicies) {
  using kvkeep_eval::split_policies;
  using list = std::vector<std::string>;
  EXPECT_EQ(split_policies("dense"), list{"dense"});
  EXPECT_EQ(split_policies(" dense ;\n lm_infinite:sinks=4,window=9\t"),
            (list{"dense", "lm_infinite:sinks=4,window=9"}));
  for (const char* const empty : {"", " ", ";"}) {
    expect_failure([&] { static_cast<void>(split_policies(empty)); }, {"policy number 1"});
  }
  expect_failure([] { static_cast<void>(split_policies("dense;")); }, {"policy number 2", "dense;"});
  expect_failure([] { static_cast<void>(split_policies("dense; ;dense")); }, {"policy number 2", "dense; ;dense"});
}

}  // namespace
}  // namespace kvkeep_eval_test
