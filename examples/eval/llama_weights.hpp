#ifndef KVKEEP_EVAL_LLAMA_WEIGHTS_HPP
#define KVKEEP_EVAL_LLAMA_WEIGHTS_HPP

#include "llama_config.hpp"
#include "matrix.hpp"

#include <filesystem>
#include <vector>

namespace kvkeep_eval {

// All weights of a Llama model in f32, whatever file they come from.
struct llama_weights {
  struct layer {
    matrix attention_norm;  // [1, hidden]
    matrix q;               // [query_heads * head_dim, hidden]
    matrix k;               // [kv_heads * head_dim, hidden]
    matrix v;               // [kv_heads * head_dim, hidden]
    matrix o;               // [hidden, query_heads * head_dim]
    matrix mlp_norm;        // [1, hidden]
    matrix gate;            // [feed_forward, hidden]
    matrix up;              // [feed_forward, hidden]
    matrix down;            // [hidden, feed_forward]
  };

  matrix embedding;           // [vocabulary, hidden]
  std::vector<layer> layers;  // [layers]
  matrix final_norm;          // [1, hidden]
  matrix head;                // [vocabulary, hidden]; empty if the output is tied to the embedding
};

// Reads a model.safetensors with Hugging Face's names; a failure names the tensor that is missing, wrong or unknown.
[[nodiscard]] llama_weights read_safetensors_weights(const llama_config& config, const std::filesystem::path& path);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_LLAMA_WEIGHTS_HPP
