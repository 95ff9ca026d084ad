#include "llama.hpp"

#include "failure.hpp"
#include "safetensors.hpp"

#include <fmt/format.h>

#include <cmath>
#include <string>

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

// SwiGLU: gate = silu(gate) * up, both [tokens, feed_forward].
void swiglu(matrix& gate, const matrix& up) {
  gate.array() = gate.array() / (1.0F + (-gate.array()).exp()) * up.array();
}

// A failure if the file holds weights that a model of this config has no use for (more layers, biases): without them
// the figures would be another model's. Tables that only repeat the config or the embedding are no weights.
void refuse_unknown_tensors(const safetensors& file, const llama_config& config) {
  for (const std::string& name : file.unread()) {
    const bool repeats = name.ends_with("rotary_emb.inv_freq") || (config.tied_output && name == "lm_head.weight");
    if (!repeats) {
      throw failure(fmt::format("{}: has a tensor {}, which config.json does not account for", file.path(), name));
    }
  }
}

}  // namespace

llama::llama(const llama_config& config, const std::filesystem::path& weights) : config_(config) {
  safetensors file(weights);
  const std::size_t hidden = config_.hidden;
  const std::size_t query_width = config_.query_heads * config_.head_dim;
  const std::size_t kv_width = config_.kv_heads * config_.head_dim;

  embedding_ = file.read("model.embed_tokens.weight", {config_.vocabulary, hidden});
  for (std::size_t i = 0; i < config_.layers; ++i) {
    const auto read = [&](const char* name, const std::vector<std::size_t>& shape) {
      return file.read(fmt::format("model.layers.{}.{}.weight", i, name), shape);
    };
    layers_.push_back({.attention_norm = read("input_layernorm", {hidden}),
                       .q = read("self_attn.q_proj", {query_width, hidden}),
                       .k = read("self_attn.k_proj", {kv_width, hidden}),
                       .v = read("self_attn.v_proj", {kv_width, hidden}),
                       .o = read("self_attn.o_proj", {hidden, query_width}),
                       .mlp_norm = read("post_attention_layernorm", {hidden}),
                       .gate = read("mlp.gate_proj", {config_.feed_forward, hidden}),
                       .up = read("mlp.up_proj", {config_.feed_forward, hidden}),
                       .down = read("mlp.down_proj", {hidden, config_.feed_forward})});
  }
  final_norm_ = file.read("model.norm.weight", {hidden});
  if (!config_.tied_output) {
    head_ = file.read("lm_head.weight", {config_.vocabulary, hidden});
  }
  refuse_unknown_tensors(file, config_);
}

matrix llama::hidden_states(std::span<const token> tokens, const attend_function& attend) const {
  const Eigen::Index count = index(tokens.size());
  const Eigen::Index query_width = index(config_.query_heads * config_.head_dim);
  const Eigen::Index kv_width = index(config_.kv_heads * config_.head_dim);

  matrix x(count, index(config_.hidden));           // [tokens, hidden], the residual stream
  matrix normed(count, index(config_.hidden));      // [tokens, hidden]
  matrix q(count, query_width);                     // [tokens, query_heads, head_dim]
  matrix k(count, kv_width);                        // [tokens, kv_heads, head_dim]
  matrix v(count, kv_width);                        // [tokens, kv_heads, head_dim]
  matrix attended(count, query_width);              // [tokens, query_heads, head_dim]
  matrix gate(count, index(config_.feed_forward));  // [tokens, feed_forward]
  matrix up(count, index(config_.feed_forward));    // [tokens, feed_forward]

  for (std::size_t i = 0; i < tokens.size(); ++i) {
    x.row(index(i)) = embedding_.row(tokens[i]);
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const layer_weights& layer = layers_[i];
    rms_norm(x, layer.attention_norm, config_.norm_epsilon, normed);
    q.noalias() = normed * layer.q.transpose();
    k.noalias() = normed * layer.k.transpose();
    v.noalias() = normed * layer.v.transpose();
    attend(i, q, k, v, attended);
    x.noalias() += attended * layer.o.transpose();

    rms_norm(x, layer.mlp_norm, config_.norm_epsilon, normed);
    gate.noalias() = normed * layer.gate.transpose();
    up.noalias() = normed * layer.up.transpose();
    swiglu(gate, up);
    x.noalias() += gate * layer.down.transpose();
  }
  rms_norm(x, final_norm_, config_.norm_epsilon, normed);
  return normed;
}

void llama::logits(const matrix& states, std::size_t first, std::size_t count, matrix& out) const {
  const matrix& head = config_.tied_output ? embedding_ : head_;
  out.resize(index(count), head.rows());
  out.noalias() = states.middleRows(index(first), index(count)) * head.transpose();
}

}  // namespace kvkeep_eval
