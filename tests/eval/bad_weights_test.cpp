// A model.safetensors that is broken, or belongs to another model, is refused with the file and the tensor.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "fake_model.hpp"
#include "support.hpp"

namespace kvkeep_eval_test {
namespace {

constexpr const char* norm = "model.norm.weight";                // [4], 8 bytes
constexpr const char* up = "model.layers.0.mlp.up_proj.weight";  // [6, 4], 48 bytes
constexpr const char* embedding = "model.embed_tokens.weight";   // [2048, 4], the first in the file
const std::string eight(8, '\xff');

std::string path_of(const fake_model& model) { return model.file("model.safetensors").string() + ": "; }

// The model is refused with `named` once its weights are these bytes.
void expect_bytes_refused(const std::string& bytes, const std::vector<std::string>& named) {
  const fake_model model;
  write_file(model.file("model.safetensors"), bytes);
  std::vector<std::string> all{path_of(model)};
  all.insert(all.end(), named.begin(), named.end());
  model.expect_refused(all);
}

// The model is refused with `named` once `change` has been made to its tensors.
template <class Change>
void expect_change_refused(const Change& change, const std::vector<std::string>& named) {
  fake_model model;
  change(model.tensors);
  expect_bytes_refused(model.tensors.bytes(), named);
}

TEST(BadWeights, Truncated) {
  const std::string whole = fake_model().tensors.bytes();
  const std::string truncated = "is truncated";
  expect_bytes_refused("", {truncated, "0 bytes"});
  expect_bytes_refused(whole.substr(0, 7), {truncated, "7 bytes"});
  expect_bytes_refused(whole.substr(0, 8), {truncated, "8 bytes"});
  expect_bytes_refused(whole.substr(0, 100), {truncated, "100 bytes"});
  expect_bytes_refused(whole.substr(0, whole.size() - 1), {truncated, std::to_string(whole.size())});
}

TEST(BadWeights, HeaderLongerThanTheFile) {
  const std::string whole = fake_model().tensors.bytes();
  expect_bytes_refused(std::string("\0\0\x10\0\0\0\0\0", 8) + whole.substr(8), {"is truncated", "1048584"});
  expect_bytes_refused(eight + whole.substr(8), {"is not a safetensors file", "18446744073709551615"});
}

TEST(BadWeights, HeaderThatIsNoJsonObject) {
  const std::string malformed = "is not a safetensors file (its header is malformed)";
  for (const char* const header : {"", "hello", "{\"a\": ", "{} {}", "[]", "[1]", "3", "null", "\xff"}) {
    SCOPED_TRACE(header);
    expect_bytes_refused(safetensors_bytes(header, "data"), {malformed});
  }
  for (const char* const entry :
       {"3", "null", "[]", "{}", R"({"dtype": "F32", "shape": [1]})", R"({"shape": [1], "data_offsets": [0, 4]})",
        R"({"dtype": "F32", "data_offsets": [0, 4]})"}) {
    SCOPED_TRACE(entry);
    expect_bytes_refused(safetensors_bytes(std::string(R"({"model.norm.weight": )") + entry + "}", "data"),
                         {malformed});
  }
}

TEST(BadWeights, FieldsOfAnotherKind) {
  const std::string malformed = "is not a safetensors file (its header is malformed)";
  for (const char* const shape : {"[-4]", "[4.5]", "[\"4\"]", "4", "[[4]]", R"({"rows": 4})", "null"}) {
    SCOPED_TRACE(shape);
    expect_change_refused([&](weights& w) { w.at(norm).shape = shape; }, {malformed});
  }
  for (const char* const offsets : {"[-8, 0]", "[0]", "[]", "[0, 8, 8]", "8", "[0.5, 8]", "[\"0\", 8]"}) {
    SCOPED_TRACE(offsets);
    expect_change_refused([&](weights& w) { w.at(norm).offsets = offsets; }, {malformed});
  }
  expect_change_refused([](weights& w) { w.at(norm).dtype = "3"; }, {malformed});
}

TEST(BadWeights, OffsetsBeyondTheData) {
  expect_change_refused([](weights& w) { w.at(norm).offsets = "[1000000, 1000008]"; }, {"is truncated"});
  expect_change_refused([](weights& w) { w.at(norm).offsets = "[0, 18446744073709551615]"; },
                        {norm, "[0, 18446744073709551615]"});
  expect_change_refused([](weights& w) { w.at(norm).offsets = "[18446744073709551600, 18446744073709551608]"; },
                        {norm, "[18446744073709551600, 18446744073709551608]"});
  expect_change_refused([](weights& w) { w.at(norm).offsets = "[8, 0]"; }, {norm, "[8, 0]"});
}

TEST(BadWeights, OverlappingTensors) {
  expect_change_refused([](weights& w) { w.at(norm).offsets = "[0, 8]"; }, {norm, embedding, "overlap"});
  expect_change_refused([](weights& w) { w.at(norm).offsets = "[16380, 16388]"; }, {norm, embedding, "overlap"});
  expect_change_refused([](weights& w) { w.at(norm).offsets = w.at("model.layers.0.input_layernorm.weight").offsets; },
                        {norm, "model.layers.0.input_layernorm.weight", "overlap"});
}

TEST(BadWeights, BytesThatAreNotWhatTheTypeTakes) {
  expect_change_refused([](weights& w) { w.at(norm).dtype = "\"F32\""; }, {norm, "8 bytes"});
  expect_change_refused([](weights& w) { w.erase(norm), w.add(norm, "BF16", {4}, "1234567"); }, {norm, "7 bytes"});
  expect_change_refused([](weights& w) { w.erase(norm), w.add(norm, "BF16", {4}, ""); }, {norm, "0 bytes"});
}

TEST(BadWeights, WrongType) {
  for (const char* const type : {"I64", "F64", "F8_E4M3", "bf16", ""}) {
    SCOPED_TRACE(type);
    expect_change_refused([&](weights& w) { w.at(norm).dtype = '"' + std::string(type) + '"'; },
                          {norm, std::string("has type ") + type, "supported are F32, F16 and BF16"});
  }
}

TEST(BadWeights, WrongShape) {
  expect_change_refused([](weights& w) { w.at(up).shape = "[4, 6]"; }, {up, "[4, 6]", "[6, 4]"});
  expect_change_refused([](weights& w) { w.at(up).shape = "[24]"; }, {up, "[24]", "[6, 4]"});
  expect_change_refused([](weights& w) { w.at(norm).shape = "[1, 4]"; }, {norm, "[1, 4]", "[4]"});
  expect_change_refused([](weights& w) { w.at(norm).shape = "[]"; }, {norm, "[]", "[4]"});
}

TEST(BadWeights, ShapesOfAnotherConfig) {
  struct other {
    const char* field;
    const char* value;
    const char* tensor;
  };
  for (const other& o :
       {other{"hidden_size", "8", embedding}, other{"intermediate_size", "7", "mlp.gate_proj"},
        other{"num_key_value_heads", "2", "self_attn.k_proj"}, other{"head_dim", "8", "self_attn.q_proj"}}) {
    SCOPED_TRACE(o.field);
    fake_model model;
    model.config[o.field] = o.value;
    model.write_config();
    model.expect_refused({path_of(model), o.tensor, "has shape"});
  }
}

TEST(BadWeights, MissingTensor) {
  for (const char* const name : {embedding, norm, up, "model.layers.0.self_attn.o_proj.weight"}) {
    SCOPED_TRACE(name);
    expect_change_refused([&](weights& w) { w.erase(name); }, {std::string("has no tensor ") + name});
  }
  fake_model model;
  model.config["tie_word_embeddings"] = "false";
  model.write_config();
  model.expect_refused({path_of(model), "has no tensor lm_head.weight"});
  model.config["tie_word_embeddings"] = "true";
  model.config["num_hidden_layers"] = "2";
  model.write_config();
  model.expect_refused({path_of(model), "has no tensor model.layers.1.input_layernorm.weight"});
}

TEST(BadWeights, UnknownTensor) {
  for (const char* const name :
       {"model.layers.0.self_attn.q_proj.bias", "model.layers.1.mlp.up_proj.weight", "v_head"}) {
    SCOPED_TRACE(name);
    expect_change_refused([&](weights& w) { w.add(name, "BF16", {4}, eight); }, {std::string("has a tensor ") + name});
  }
}

// Tables that only repeat what the config says are no other model's.
TEST(BadWeights, TablesThatRepeatAreAccepted) {
  fake_model model;
  model.tensors.add("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {1}, "1234");
  model.tensors.add("lm_head.weight", "BF16", {2048, 4}, std::string(2048 * 4 * 2, '\0'));
  model.write_weights();
  EXPECT_NO_THROW(static_cast<void>(model.run()));
}

TEST(BadWeights, NumbersThatAreNone) {
  fake_model model;
  model.tensors.add(norm, "BF16", {4}, eight);  // NaN
  model.write_weights();
  model.expect_refused({"the loss at position 0 is not finite"});
}

}  // namespace
}  // namespace kvkeep_eval_test
