#ifndef KVKEEP_EVAL_LLAMA_CONFIG_HPP
#define KVKEEP_EVAL_LLAMA_CONFIG_HPP

#include <kvkeep/position/encoding.hpp>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

// The shape of a Llama model, under our names; Hugging Face's stand beside them.
struct llama_config {
  std::size_t layers = 0;              // num_hidden_layers
  std::size_t hidden = 0;              // hidden_size
  std::size_t feed_forward = 0;        // intermediate_size
  std::size_t query_heads = 0;         // num_attention_heads
  std::size_t kv_heads = 0;            // num_key_value_heads
  std::size_t head_dim = 0;            // head_dim
  std::size_t vocabulary = 0;          // vocab_size
  std::size_t trained_length = 0;      // max_position_embeddings, tokens
  kvkeep::rope positions;              // rope_theta, rope_scaling; the layout is half_split in this form
  double norm_epsilon = 0;             // rms_norm_eps
  bool tied_output = false;            // tie_word_embeddings
  std::optional<int> begin_of_stream;  // bos_token_id
  std::vector<int> end_of_stream;      // eos_token_id, none or some
};

// The config that `text`, the contents of a config.json, describes. A failure, which begins with `path`, names whatever
// is missing, malformed or not supported: a config that parses is one the forward pass computes exactly.
[[nodiscard]] llama_config parse_llama_config(std::string_view text, const std::string& path);

[[nodiscard]] llama_config read_llama_config(const std::filesystem::path& path);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_LLAMA_CONFIG_HPP
