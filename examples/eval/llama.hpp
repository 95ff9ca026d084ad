#ifndef KVKEEP_EVAL_LLAMA_HPP
#define KVKEEP_EVAL_LLAMA_HPP

#include "llama_config.hpp"
#include "llama_weights.hpp"
#include "matrix.hpp"
#include "tokenizer.hpp"
#include "worker_pool.hpp"

#include <cstddef>
#include <functional>
#include <span>

namespace kvkeep_eval {

// The attention of one layer over the tokens of one step, whoever computes it. The heads of a token lie side by side:
// q and out are [tokens, query_heads * head_dim], k and v [tokens, kv_heads * head_dim]; q and k come before RoPE.
using attend_function =
    std::function<void(std::size_t layer, const matrix& q, const matrix& k, const matrix& v, matrix& out)>;

// A Llama model in f32 that computes everything but its attention; it remembers nothing between steps. One step at a
// time: its threads share the matrix products of one call, whose results do not depend on their number.
class llama {
 public:
  // `weights` must have the shapes that `config` asks for; `threads` is at least 1, which starts none.
  llama(const llama_config& config, llama_weights weights, std::size_t threads);

  [[nodiscard]] const llama_config& config() const noexcept { return config_; }
  [[nodiscard]] std::size_t threads() const noexcept { return pool_.threads(); }
  // These threads, for whoever computes the attention.
  [[nodiscard]] kvkeep::executor_ref executor() const noexcept { return pool_.executor(); }

  // The states after the last norm, [tokens, hidden]; calls `attend` once per layer, in order, on the caller's thread.
  [[nodiscard]] matrix hidden_states(std::span<const token> tokens, const attend_function& attend) const;

  // The logits of rows [first, first + count) of such states, [count, vocabulary], into `out`.
  void logits(const matrix& states, std::size_t first, std::size_t count, matrix& out) const;

 private:
  llama_config config_;
  llama_weights weights_;
  worker_pool pool_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_LLAMA_HPP
