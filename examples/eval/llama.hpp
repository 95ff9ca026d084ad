#ifndef KVKEEP_EVAL_LLAMA_HPP
#define KVKEEP_EVAL_LLAMA_HPP

#include "llama_config.hpp"
#include "matrix.hpp"
#include "tokenizer.hpp"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

namespace kvkeep_eval {

// The attention of one layer over the tokens of one step, whoever computes it. The heads of a token lie side by side:
// q and out are [tokens, query_heads * head_dim], k and v [tokens, kv_heads * head_dim]; q and k come before RoPE.
using attend_function =
    std::function<void(std::size_t layer, const matrix& q, const matrix& k, const matrix& v, matrix& out)>;

// A Llama model in f32 that computes everything but its attention; it remembers nothing between steps.
class llama {
 public:
  // Reads the weights, a model.safetensors; a failure names the tensor that is missing, wrong or unknown.
  llama(const llama_config& config, const std::filesystem::path& weights);

  [[nodiscard]] const llama_config& config() const noexcept { return config_; }

  // The states after the last norm, [tokens, hidden]; calls `attend` once per layer, in order.
  [[nodiscard]] matrix hidden_states(std::span<const token> tokens, const attend_function& attend) const;

  // The logits of rows [first, first + count) of such states, [count, vocabulary], into `out`.
  void logits(const matrix& states, std::size_t first, std::size_t count, matrix& out) const;

 private:
  struct layer_weights {
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

  llama_config config_;
  matrix embedding_;  // [vocabulary, hidden]
  std::vector<layer_weights> layers_;
  matrix final_norm_;  // [1, hidden]
  matrix head_;        // [vocabulary, hidden]; empty if the output is tied to the embedding
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_LLAMA_HPP
