#include "llama.hpp"

#include "linear.hpp"

#include <cmath>
#include <utility>

namespace kvkeep_eval {

namespace {

// RMSNorm of each row of `x`, [tokens, hidden], into `out`, which has its shape; `weight` is [1, hidden].
void rms_norm(const matrix& x, const matrix& weight, double epsilon, matrix& out) {
  const auto add = static_cast<float>(epsilon);
  for (Eigen::Index i = 0; i < x.rows(); ++i) {
    const float scale = 1.0F / std::sqrt(x.row(i).squaredNorm() / static_cast<float>(x.cols()) + add);
    out.row(i) = (x.row(i) * scale).cwiseProduct(weight);
  }
}

}  // namespace

llama::llama(const llama_config& config, llama_weights weights, std::size_t threads)
    : config_(config), weights_(std::move(weights)), pool_(threads) {}

matrix llama::hidden_states(std::span<const token> tokens, const attend_function& attend) const {
  const Eigen::Index count = index(tokens.size());
  const Eigen::Index query_width = index(config_.query_heads * config_.head_dim);
  const Eigen::Index kv_width = index(config_.kv_heads * config_.head_dim);

  matrix x(count, index(config_.hidden));            // [tokens, hidden], the residual stream
  matrix normed(count, index(config_.hidden));       // [tokens, hidden]
  matrix q(count, query_width);                      // [tokens, query_heads, head_dim]
  matrix k(count, kv_width);                         // [tokens, kv_heads, head_dim]
  matrix v(count, kv_width);                         // [tokens, kv_heads, head_dim]
  matrix attended(count, query_width);               // [tokens, query_heads, head_dim]
  matrix gated(count, index(config_.feed_forward));  // [tokens, feed_forward]
  matrix scratch;                                    // [tokens, feed_forward]

  for (std::size_t i = 0; i < tokens.size(); ++i) {
    x.row(index(i)) = weights_.embedding.row(tokens[i]);
  }
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    const llama_weights::layer& layer = weights_.layers[i];
    rms_norm(x, layer.attention_norm, config_.norm_epsilon, normed);
    apply(pool_, normed,
          {{.weights = layer.q, .out = q}, {.weights = layer.k, .out = k}, {.weights = layer.v, .out = v}});
    attend(i, q, k, v, attended);
    apply(pool_, attended, {{.weights = layer.o, .out = x, .add = true}});

    rms_norm(x, layer.mlp_norm, config_.norm_epsilon, normed);
    apply_swiglu(pool_, normed, layer.gate, layer.up, gated, scratch);
    apply(pool_, gated, {{.weights = layer.down, .out = x, .add = true}});
  }
  rms_norm(x, weights_.final_norm, config_.norm_epsilon, normed);
  return normed;
}

void llama::logits(const matrix& states, std::size_t first, std::size_t count, matrix& out) const {
  const matrix& head = config_.tied_output ? weights_.embedding : weights_.head;
  out.resize(index(count), head.rows());
  const matrix rows = states.middleRows(index(first), index(count));  // [count, hidden]
  apply(pool_, rows, {{.weights = head, .out = out}});
}

}  // namespace kvkeep_eval
