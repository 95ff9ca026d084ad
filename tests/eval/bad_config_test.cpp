// A config.json that kvkeep-eval cannot use is refused with the file, the field and the value.
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "fake_model.hpp"
#include "llama_config.hpp"
#include "support.hpp"

namespace kvkeep_eval_test {
namespace {

// One field set to one value, both as in the file; no value: the field is missing.
struct bad_field {
  const char* name;
  const char* value;
  const char* named;  // what the message must contain beside the field's name
};

void expect_refused(std::initializer_list<bad_field> cases) {
  fake_model model;
  const auto whole = model.config;
  for (const bad_field& bad : cases) {
    SCOPED_TRACE(std::string(bad.name) + " = " + (bad.value == nullptr ? "nothing" : bad.value));
    model.config = whole;
    if (bad.value == nullptr) {
      model.config.erase(bad.name);
    } else {
      model.config[bad.name] = bad.value;
    }
    model.write_config();
    model.expect_refused({model.file("config.json").string() + ": ", bad.name, bad.named});
  }
}

TEST(BadConfig, NotJson) {
  const fake_model model;
  const std::string path = model.file("config.json").string();
  for (const std::string& text :
       {std::string(), std::string(R"({"hidden_size": )"), std::string("hello"), std::string("{} {}"),
        std::string("\xff\xfe{}"), std::string(R"({"a": 1,})"), std::string(100000, '[')}) {
    SCOPED_TRACE(text.substr(0, 20));
    write_file(path, text);
    model.expect_refused({path + ": is not well-formed JSON"});
  }
  for (const char* const text : {"[]", "3", "null", "\"hidden_size\""}) {
    SCOPED_TRACE(text);
    write_file(path, text);
    model.expect_refused({path + ": is not a JSON object"});
  }
}

TEST(BadConfig, AnotherArchitecture) {
  expect_refused({{"architectures", R"(["MistralForCausalLM"])", "MistralForCausalLM"},
                  {"architectures", R"(["LlamaForCausalLM", "GPT2LMHeadModel"])", "GPT2LMHeadModel"},
                  {"architectures", R"("LlamaForCausalLM")", "only [\"LlamaForCausalLM\"] is supported"},
                  {"architectures", "[]", "only [\"LlamaForCausalLM\"] is supported"},
                  {"architectures", nullptr, "missing"},
                  {"architectures", "null", "missing"}});
}

TEST(BadConfig, PartsThatTheForwardPassDoesNotCompute) {
  expect_refused({{"attention_bias", "true", "is true, which is not supported"},
                  {"mlp_bias", "true", "is true, which is not supported"},
                  {"attention_bias", "\"no\"", "must be true or false"},
                  {"hidden_act", "\"gelu\"", "gelu"},
                  {"quantization_config", R"({"bits": 4})", "not supported"},
                  {"rope_scaling", "3", "must be an object"},
                  {"rope_scaling", R"([["type", "linear"]])", "must be an object"}});
}

TEST(BadConfig, MissingCounts) {
  expect_refused({{"num_hidden_layers", nullptr, "is missing"},
                  {"hidden_size", nullptr, "is missing"},
                  {"intermediate_size", nullptr, "is missing"},
                  {"num_attention_heads", nullptr, "is missing"},
                  {"vocab_size", nullptr, "is missing"},
                  {"max_position_embeddings", nullptr, "is missing"},
                  {"hidden_size", "null", "is missing"}});
}

TEST(BadConfig, CountsThatAreNone) {
  expect_refused({{"num_hidden_layers", "0", "is 0;"},
                  {"num_hidden_layers", "-1", "is -1;"},
                  {"num_hidden_layers", "2.5", "is 2.5;"},
                  {"num_hidden_layers", "\"4\"", "is \"4\";"},
                  {"num_hidden_layers", "true", "is true;"},
                  {"num_hidden_layers", "1000000000000000000000000000000", "must be a whole number"},
                  {"hidden_size", "18446744073709551615", "is 18446744073709551615;"},
                  {"vocab_size", "16777217", "is 16777217; it must be a whole number from 1 to 16777216"}});
}

TEST(BadConfig, CountsThatDoNotFitEachOther) {
  expect_refused({{"num_key_value_heads", "4", "num_attention_heads is 2, not a multiple of num_key_value_heads, 4"},
                  {"num_attention_heads", "3", "hidden_size is 4, not a multiple of num_attention_heads, 3"},
                  {"head_dim", "3", "is 3; rotary positions need an even one"},
                  {"bos_token_id", "2048", "is 2048; it must be a whole number below vocab_size, 2048"},
                  {"bos_token_id", "-1", "is -1;"},
                  {"bos_token_id", "[1]", "is [1];"},
                  {"eos_token_id", "2048", "is 2048; it must be whole numbers below vocab_size, 2048"},
                  {"eos_token_id", "[2, -1]", "is [2,-1];"},
                  {"eos_token_id", "\"</s>\"", "must be whole numbers"}});
}

TEST(BadConfig, NumbersThatAreNotPositive) {
  expect_refused({{"rope_theta", "0", "is 0; it must be a positive number"},
                  {"rope_theta", "-1e4", "must be a positive number"},
                  {"rope_theta", "\"x\"", "is \"x\";"},
                  {"rms_norm_eps", "-1e-6", "must be a positive number"},
                  {"tie_word_embeddings", "1", "is 1; it must be true or false"}});
}

// What is refused above is not refused by being there: the usual values of the same fields are accepted.
TEST(BadConfig, UsualValuesAreAccepted) {
  fake_model model;
  for (const bad_field& good :
       std::initializer_list<bad_field>{{"attention_bias", "false", nullptr},
                                        {"mlp_bias", "null", nullptr},
                                        {"hidden_act", "\"silu\"", nullptr},
                                        {"rope_scaling", "null", nullptr},
                                        {"rope_parameters", R"({"rope_type": "default", "rope_theta": 5e5})", nullptr},
                                        {"head_dim", "null", nullptr},
                                        {"rms_norm_eps", "1e-5", nullptr},
                                        {"eos_token_id", "[2, 7]", nullptr},
                                        {"torch_dtype", "\"bfloat16\"", nullptr}}) {
    model.config[good.name] = good.value;
  }
  model.config.erase("bos_token_id");
  model.write_config();
  EXPECT_NO_THROW(static_cast<void>(model.run()));

  const kvkeep_eval::llama_config read = kvkeep_eval::read_llama_config(model.file("config.json"));
  EXPECT_EQ(read.head_dim, 2U);
  EXPECT_EQ(read.positions.theta, 5e5);
  EXPECT_EQ(read.end_of_stream, (std::vector<int>{2, 7}));
  EXPECT_EQ(read.norm_epsilon, 1e-5);
  EXPECT_TRUE(read.tied_output);
  EXPECT_FALSE(read.begin_of_stream.has_value());
}

}  // namespace
}  // namespace kvkeep_eval_test
