// Small models made by a formula, in each form that kvkeep-eval reads.
#ifndef KVKEEP_TESTS_EVAL_MADE_MODEL_HPP
#define KVKEEP_TESTS_EVAL_MADE_MODEL_HPP

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "llama_config.hpp"
#include "llama_weights.hpp"

namespace kvkeep_eval_test {

/// The weights that data/expected_forms.py gives a model of this shape; the head exists even if the output is tied.
[[nodiscard]] kvkeep_eval::llama_weights made_weights(const kvkeep_eval::llama_config& config);

/// Makes a model directory in Hugging Face's form, its weights in f32, with `config_json` and a tokenizer.model of as
/// many pieces as the model has (a llama2.c tokenizer: the contents tell).
void write_hugging_face(const std::filesystem::path& directory, std::string_view config_json);

enum class llama2c_form { legacy, version_1 };

/// The bytes of a llama2.c checkpoint of this shape and these weights, whose q and k stand in Hugging Face's order.
[[nodiscard]] std::string llama2c_bytes(llama2c_form form, const kvkeep_eval::llama_config& config,
                                        const kvkeep_eval::llama_weights& weights);

/// One piece of a llama2.c tokenizer.
struct llama2c_piece {
  std::string text;
  float score = 0;
};

/// <unk>, <s>, </s>, 256 bytes, then `more`.
[[nodiscard]] std::vector<llama2c_piece> llama2c_pieces(const std::vector<llama2c_piece>& more);
/// The bytes of a tokenizer.bin.
[[nodiscard]] std::string llama2c_tokenizer_bytes(const std::vector<llama2c_piece>& pieces);

/// A number as a little-endian file holds it.
template <class T>
[[nodiscard]] std::string bytes_of_number(T number) {
  return {static_cast<const char*>(static_cast<const void*>(&number)), sizeof(T)};
}

}  // namespace kvkeep_eval_test

#endif
