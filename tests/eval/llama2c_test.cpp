// llama2.c's files that are broken, cut off or foreign: one clear failure each, before anything is allocated.
#include "llama2c.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "made_model.hpp"
#include "support.hpp"
#include "text.hpp"
#include "tokenizer.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::llama2c_file;

constexpr std::size_t vocabulary = 259;

kvkeep_eval::llama_config small_config(bool tied) {
  kvkeep_eval::llama_config out;
  out.layers = 2;
  out.hidden = 8;
  out.feed_forward = 6;
  out.query_heads = 2;
  out.kv_heads = 1;
  out.head_dim = 4;
  out.vocabulary = vocabulary;
  out.trained_length = 5;
  out.tied_output = tied;
  return out;
}

std::string small_file(llama2c_form form, bool tied = true) {
  const kvkeep_eval::llama_config config = small_config(tied);
  return llama2c_bytes(form, config, made_weights(config));
}

// The bytes with number `place` of the header (of `form`) replaced.
std::string with_number(llama2c_form form, std::size_t place, std::int32_t value) {
  const std::size_t first = form == llama2c_form::legacy ? 0 : 8;
  return small_file(form).replace(first + 4 * place, 4, bytes_of_number(value));
}

void expect_file_refused(const std::string& bytes, const std::vector<std::string>& named) {
  const temporary_directory directory;
  const std::filesystem::path path = directory.path() / "model.bin";
  write_file(path, bytes);
  std::vector<std::string> all{path.string() + ": "};
  all.insert(all.end(), named.begin(), named.end());
  expect_failure([&] { static_cast<void>(llama2c_file(path)); }, all);
}

TEST(Llama2c, WholeFilesAreRead) {
  for (const llama2c_form form : {llama2c_form::legacy, llama2c_form::version_1}) {
    for (const bool tied : {true, false}) {
      const temporary_directory directory;
      write_file(directory.path() / "m", small_file(form, tied));
      const llama2c_file file(directory.path() / "m");
      const auto& config = file.config();
      EXPECT_EQ(config.layers, 2U);
      EXPECT_EQ(config.hidden, 8U);
      EXPECT_EQ(config.feed_forward, 6U);
      EXPECT_EQ(config.query_heads, 2U);
      EXPECT_EQ(config.kv_heads, 1U);
      EXPECT_EQ(config.head_dim, 4U);
      EXPECT_EQ(config.vocabulary, vocabulary);
      EXPECT_EQ(config.trained_length, 5U);
      EXPECT_EQ(config.tied_output, tied);
      EXPECT_EQ(config.positions.theta, 10000.0);
      EXPECT_EQ(config.positions.layout, kvkeep::rope_layout::interleaved);
      EXPECT_EQ(config.norm_epsilon, 1e-5);
      const auto expected = made_weights(small_config(tied));
      const auto weights = file.read_weights();
      EXPECT_EQ(weights.embedding, expected.embedding);
      EXPECT_EQ(weights.final_norm, expected.final_norm);
      EXPECT_EQ(weights.layers.at(1).down, expected.layers[1].down);
      EXPECT_EQ(weights.layers.at(1).up, expected.layers[1].up);
      EXPECT_EQ(weights.head.size(), tied ? 0 : expected.head.size());
      if (!tied) EXPECT_EQ(weights.head, expected.head);
    }
  }
}

TEST(Llama2c, AnotherLengthThanTheHeaderAsksFor) {
  for (const llama2c_form form : {llama2c_form::legacy, llama2c_form::version_1}) {
    const std::string whole = small_file(form);
    const std::string size = std::to_string(whole.size());
    expect_file_refused(whole.substr(0, whole.size() - 1), {"is truncated", "with its header has " + size});
    expect_file_refused(whole.substr(0, whole.size() / 2), {"is truncated", size});
    expect_file_refused(whole + '\0', {"is too long", size});
    expect_file_refused(whole.substr(0, 20), {"is not a llama2.c checkpoint", "20 bytes, less than its header"});
  }
  expect_file_refused("", {"is not a llama2.c checkpoint", "0 bytes"});
  // An untied output has one more table.
  expect_file_refused(with_number(llama2c_form::legacy, 5, -259), {"is truncated"});
}

TEST(Llama2c, ForeignFiles) {
  expect_file_refused(std::string(5000, 'h'),
                      {"is not a llama2.c checkpoint (dim is 1751672936; it must be from 1 to"});
  expect_file_refused(R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 8})", {"is not a llama2.c checkpoint"});
  expect_file_refused(std::string(5000, '\0'), {"dim is 0"});
  const temporary_directory directory;
  expect_failure([&] { static_cast<void>(llama2c_file(directory.path())); }, {"directory"});
  expect_failure([&] { static_cast<void>(llama2c_file(directory.path() / "none")); }, {"No such file"});
  expect_failure([] { static_cast<void>(llama2c_file("/dev/null")); }, {"/dev/null: is a device, pipe or socket"});
}

TEST(Llama2c, NumbersOutOfRange) {
  const char* const names[] = {"dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len"};
  for (const llama2c_form form : {llama2c_form::legacy, llama2c_form::version_1}) {
    for (std::size_t i = 0; i < 7; ++i) {
      for (const std::int32_t value : {0, std::numeric_limits<std::int32_t>::min(), 1 << 30}) {
        expect_file_refused(with_number(form, i, value),
                            {std::string(names[i]) + " is " + std::to_string(value) + "; it must be from 1 to"});
      }
    }
    // In range, and far more than the file has: refused by arithmetic, without reading or allocating.
    expect_file_refused(with_number(form, 2, 1 << 16), {"is truncated"});
    expect_file_refused(with_number(form, 5, 1 << 24), {"is truncated"});
    expect_file_refused(with_number(form, 3, 3), {"dim is 8; it must be an even multiple of n_heads, 3"});
    expect_file_refused(with_number(form, 3, 8), {"dim is 8; it must be an even multiple of n_heads, 8"});
    expect_file_refused(with_number(form, 4, 4), {"n_heads is 2; it must be a multiple of n_kv_heads, 4"});
  }
  expect_file_refused(with_number(llama2c_form::version_1, 5, -259), {"vocab_size is -259"});
  expect_file_refused(small_file(llama2c_form::version_1).replace(36, 1, "\2"), {"shared_classifier is 2"});
}

TEST(Llama2c, OtherVersions) {
  std::string bytes = small_file(llama2c_form::version_1);
  expect_file_refused(bytes.replace(4, 4, bytes_of_number(std::int32_t{2})), {"version 2 (int8)", "not supported"});
  expect_file_refused(bytes.replace(4, 4, bytes_of_number(std::int32_t{3})), {"version 3", "0 (legacy) and 1"});
}

TEST(Checkpoint, AFileNeedsATokenizer) {
  const temporary_directory directory;
  const std::filesystem::path model = directory.path() / "model.bin";
  const std::filesystem::path pieces = directory.path() / "tok.bin";
  write_file(model, small_file(llama2c_form::legacy));
  write_file(pieces, llama2c_tokenizer_bytes(llama2c_pieces({})));
  EXPECT_NO_THROW(static_cast<void>(kvkeep_eval::checkpoint(model, pieces).load(1)));
  expect_failure([&] { static_cast<void>(kvkeep_eval::checkpoint(model)); },
                 {model.string() + ": is a llama2.c checkpoint, whose tokenizer must be given"});
  write_file(pieces, llama2c_tokenizer_bytes(llama2c_pieces({{"a", -1}})));
  expect_failure([&] { static_cast<void>(kvkeep_eval::checkpoint(model, pieces)); },
                 {pieces.string() + ": has 260 pieces; vocab_size in " + model.string() + " is 259"});
}

TEST(Checkpoint, SplitWeightsAreRefused) {
  const temporary_directory directory;
  write_hugging_face(directory.path(), R"({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1,
      "hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 1, "vocab_size": 259,
      "max_position_embeddings": 8, "tie_word_embeddings": true, "eos_token_id": [7, 9]})");
  const std::filesystem::path list = directory.path() / "model.safetensors.index.json";
  write_file(list, "{}");
  const kvkeep_eval::checkpoint whole(directory.path());  // all weights in one file all the same
  EXPECT_EQ(whole.begin_of_stream(), 1);                  // the tokenizer's
  EXPECT_EQ(whole.name(), directory.path().filename().string());
  for (const int end : {1, 7, 9}) EXPECT_TRUE(whole.ends_stream(end)) << end;
  for (const int other : {0, 2, 8}) EXPECT_FALSE(whole.ends_stream(other)) << other;
  std::filesystem::remove(directory.path() / "model.safetensors");
  expect_failure([&] { static_cast<void>(kvkeep_eval::checkpoint(directory.path())); },
                 {list.string() + ": splits the weights over several files, which is not supported"});
}

}  // namespace
}  // namespace kvkeep_eval_test
