// The rotary positions that a config.json asks for, and those that are refused with the field and the value.
#include "rope_config.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "support.hpp"

namespace kvkeep_eval_test {
namespace {

// The positions of a model with head_dim 4, trained for 1000 tokens, whose config.json has `fields` too.
kvkeep::rope parse(const std::string& fields) {
  const std::string path = "dir/config.json";
  const auto object = nlohmann::json::parse(R"({"max_position_embeddings": 1000, )" + fields + "}");
  return kvkeep_eval::parse_rope(kvkeep_eval::config_fields(object, path), 4);
}

template <class Scaling>
Scaling scaling_of(const std::string& fields) {
  const kvkeep::rope positions = parse(fields);
  EXPECT_TRUE(std::holds_alternative<Scaling>(positions.scaling)) << fields;
  const Scaling* const scaling = std::get_if<Scaling>(&positions.scaling);
  return scaling != nullptr ? *scaling : Scaling{};
}

struct refusal {
  const char* fields;
  std::vector<std::string> named;
};

void expect_refused(std::initializer_list<refusal> cases) {
  for (const refusal& bad : cases) {
    SCOPED_TRACE(bad.fields);
    std::vector<std::string> named{"dir/config.json: "};
    named.insert(named.end(), bad.named.begin(), bad.named.end());
    expect_failure([&] { static_cast<void>(parse(bad.fields)); }, named);
  }
}

TEST(RopeConfig, TheBaseMayStandInEitherPlace) {
  EXPECT_EQ(parse(R"("x": 0)").theta, 10000.0);
  EXPECT_EQ(parse(R"("rope_theta": 5e5)").theta, 5e5);
  EXPECT_EQ(parse(R"("rope_theta": 5e5, "rope_parameters": {"rope_theta": 7e5})").theta, 7e5);
  EXPECT_EQ(parse(R"("rope_scaling": {"rope_type": "default"})").theta, 10000.0);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(parse(R"("rope_scaling": {"type": "default"})").scaling));
  EXPECT_EQ(parse(R"("x": 0)").layout, kvkeep::rope_layout::half_split);
}

TEST(RopeConfig, ScalingWinsOverParametersUnlessItIsEmpty) {
  const std::string parameters = R"("rope_parameters": {"rope_type": "linear", "factor": 3, "rope_theta": 9})";
  EXPECT_EQ(scaling_of<kvkeep::linear_scaling>(parameters).factor, 3);
  EXPECT_EQ(scaling_of<kvkeep::linear_scaling>(R"("rope_scaling": {}, )" + parameters).factor, 3);
  const std::string both = R"("rope_scaling": {"type": "linear", "factor": 2}, )" + parameters;
  EXPECT_EQ(scaling_of<kvkeep::linear_scaling>(both).factor, 2);
  EXPECT_EQ(parse(both).theta, 10000.0);
  // rope_type is the newer name, and wins.
  EXPECT_TRUE(std::holds_alternative<std::monostate>(
      parse(R"("rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2})").scaling));
}

TEST(RopeConfig, TheOriginalLengthBesideWinsOverTheOneInside) {
  const std::string inside = R"("rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 50})";
  EXPECT_EQ(scaling_of<kvkeep::yarn_scaling>(inside).original_max_position, 50);
  EXPECT_EQ(
      scaling_of<kvkeep::yarn_scaling>(R"("original_max_position_embeddings": 70, )" + inside).original_max_position,
      70);
  const auto neither = scaling_of<kvkeep::yarn_scaling>(R"("rope_scaling": {"type": "yarn", "factor": 2})");
  EXPECT_EQ(neither.original_max_position, 1000);
}

TEST(RopeConfig, AFactorThatIsMissingIsTheRatioOfLengths) {
  const std::string length = R"("original_max_position_embeddings": 50)";
  EXPECT_EQ(scaling_of<kvkeep::yarn_scaling>(R"("rope_scaling": {"type": "yarn", )" + length + "}").factor, 20);
  EXPECT_EQ(scaling_of<kvkeep::yarn_scaling>(R"("rope_scaling": {"type": "yarn", "factor": 3, )" + length + "}").factor,
            3);
  const std::string lists = R"("short_factor": [1, 2], "long_factor": [3, 4])";
  EXPECT_EQ(
      scaling_of<kvkeep::longrope_scaling>(R"("rope_scaling": {"type": "longrope", )" + lists + "}, " + length).factor,
      20);
}

TEST(RopeConfig, EveryFieldOfAScalingIsTaken) {
  const auto yarn = scaling_of<kvkeep::yarn_scaling>(
      R"("rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 20, "beta_slow": 2, "attention_factor": 1.5})");
  EXPECT_EQ(yarn.beta_fast, 20);
  EXPECT_EQ(yarn.beta_slow, 2);
  EXPECT_EQ(yarn.attention_factor, 1.5);
  const auto plain = scaling_of<kvkeep::yarn_scaling>(R"("rope_scaling": {"type": "yarn", "factor": 2})");
  EXPECT_EQ(plain.beta_fast, 32);
  EXPECT_EQ(plain.beta_slow, 1);
  EXPECT_FALSE(plain.attention_factor.has_value());

  const auto llama3 = scaling_of<kvkeep::llama3_scaling>(
      R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 2, "high_freq_factor": 5,
          "original_max_position_embeddings": 60})");
  EXPECT_EQ(llama3.factor, 8);
  EXPECT_EQ(llama3.low_freq_factor, 2);
  EXPECT_EQ(llama3.high_freq_factor, 5);
  EXPECT_EQ(llama3.original_max_position, 60);

  const auto longrope = scaling_of<kvkeep::longrope_scaling>(
      R"("rope_scaling": {"rope_type": "longrope", "factor": 8, "short_factor": [1, 2], "long_factor": [3, 4.5],
          "attention_factor": 1.25})");
  EXPECT_EQ(longrope.short_factor, (std::vector<double>{1, 2}));
  EXPECT_EQ(longrope.long_factor, (std::vector<double>{3, 4.5}));
  EXPECT_EQ(longrope.factor, 8);
  EXPECT_EQ(longrope.attention_factor, 1.25);
}

TEST(RopeConfig, TypesThatAreNotSupported) {
  expect_refused(
      {{R"("rope_scaling": {"type": "dynamic", "factor": 2.0})",
        {"rope_scaling.type is \"dynamic\", which is not supported", "change with every token"}},
       {R"("rope_parameters": {"rope_type": "mrope"})",
        {"rope_parameters.rope_type is \"mrope\"", "\"default\", \"linear\", \"llama3\", \"yarn\" and \"longrope\""}},
       {R"("rope_scaling": {"rope_type": 3})", {"rope_scaling.rope_type is 3"}},
       {R"("rope_parameters": {"full_attention": {"rope_type": "default"}})",
        {"rope_parameters.full_attention is an object", "differ by layer"}},
       {R"("rope_scaling": [1])", {"rope_scaling is [1]; it must be an object"}},
       {R"("rope_parameters": "linear")", {"rope_parameters is \"linear\"; it must be an object"}},
       {R"("partial_rotary_factor": 0.5)", {"partial_rotary_factor is 0.5; only 1 is supported"}},
       {R"("rope_parameters": {"partial_rotary_factor": 0.5})",
        {"rope_parameters.partial_rotary_factor is 0.5; only 1 is supported"}},
       {R"("rope_scaling": {"type": "yarn", "factor": 2, "truncate": false})",
        {"rope_scaling.truncate is false, which is not supported"}}});
}

TEST(RopeConfig, ValuesThatAreMissingOrOutOfRange) {
  expect_refused(
      {{R"("rope_theta": -1)", {"rope_theta is -1; it must be a positive number"}},
       {R"("rope_parameters": {"rope_theta": 0})", {"rope_parameters.rope_theta is 0; it must be a positive number"}},
       {R"("rope_scaling": {"type": "linear"})", {"rope_scaling.factor is missing"}},
       {R"("rope_scaling": {"type": "linear", "factor": "2"})", {"rope_scaling.factor is \"2\";"}},
       {R"("rope_scaling": {"type": "llama3", "low_freq_factor": 1, "high_freq_factor": 4})", {"factor is missing"}},
       {R"("rope_scaling": {"type": "llama3", "factor": 2, "high_freq_factor": 4})", {"low_freq_factor is missing"}},
       {R"("rope_scaling": {"type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4})",
        {"rope_scaling.high_freq_factor is 4; it must be above low_freq_factor, 4"}},
       {R"("rope_scaling": {"type": "yarn", "factor": -2})", {"rope_scaling.factor is -2;"}},
       {R"("rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2})",
        {"rope_scaling.beta_fast is 1; it must be at least beta_slow, 2"}},
       {R"("rope_scaling": {"type": "yarn", "factor": 2, "mscale": -1})", {"rope_scaling.mscale is -1;"}},
       {R"("rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 0.5})",
        {"rope_scaling.original_max_position_embeddings is 0.5; it must be a whole number"}},
       {R"("original_max_position_embeddings": -1, "rope_scaling": {"type": "yarn", "factor": 2})",
        {"original_max_position_embeddings is -1; it must be a whole number"}},
       {R"("rope_theta": 1, "rope_scaling": {"type": "yarn", "factor": 2})", {"not usable", "theta"}},
       {R"("rope_scaling": {"type": "longrope", "long_factor": [1, 2]})", {"rope_scaling.short_factor is missing"}},
       {R"("rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1, 2]})",
        {"rope_scaling.short_factor is a list of 1; it must be a list of 2 positive numbers"}},
       {R"("rope_scaling": {"type": "longrope", "short_factor": [1, 2], "long_factor": 7})",
        {"rope_scaling.long_factor is 7; it must be a list of 2"}},
       {R"("rope_scaling": {"type": "longrope", "short_factor": [1, 2], "long_factor": [1, -2]})",
        {"rope_scaling.long_factor has -2;"}},
       {R"("rope_scaling": {"type": "longrope", "factor": 2, "original_max_position_embeddings": 1,
           "short_factor": [1, 2], "long_factor": [1, 2]})",
        {"not usable", "attention_factor"}}});
}

}  // namespace
}  // namespace kvkeep_eval_test
