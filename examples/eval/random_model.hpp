#ifndef KVKEEP_EVAL_RANDOM_MODEL_HPP
#define KVKEEP_EVAL_RANDOM_MODEL_HPP

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>

namespace kvkeep_eval {

// The shape of a model that knows nothing: for measuring speed at sizes for which no trained model is at hand.
struct random_model_options {
  std::filesystem::path out;        // a directory that does not exist yet
  std::filesystem::path tokenizer;  // a sentencepiece model, which is copied
  std::size_t layers = 8;
  std::size_t hidden = 1024;
  std::size_t feed_forward = 2816;
  std::size_t query_heads = 16;
  std::size_t kv_heads = 4;
  std::size_t head_dim = 64;
  std::size_t trained_length = 4096;  // tokens
  std::uint64_t seed = 1;
};

// Writes such a model in Hugging Face's form: weights uniform with variance 1 / inputs, in bf16, the output tied to the
// embedding, norms 1. A failure, which leaves nothing behind, if the shape is no model's or the directory exists. Returns
// the number of weights. `stop`, which may be empty, is asked now and then: true leaves nothing behind, and returns 0.
std::size_t write_random_model(const random_model_options& options, const std::function<bool()>& stop = {});

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RANDOM_MODEL_HPP
