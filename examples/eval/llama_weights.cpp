#include "llama_weights.hpp"

#include "failure.hpp"
#include "safetensors.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <string>

namespace kvkeep_eval {

namespace {

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

llama_weights read_safetensors_weights(const llama_config& config, const std::filesystem::path& path) {
  safetensors file(path);
  const std::size_t hidden = config.hidden;
  const std::size_t query_width = config.query_heads * config.head_dim;
  const std::size_t kv_width = config.kv_heads * config.head_dim;

  llama_weights out;
  out.embedding = file.read("model.embed_tokens.weight", {config.vocabulary, hidden});
  for (std::size_t i = 0; i < config.layers; ++i) {
    const auto read = [&](const char* name, const std::vector<std::size_t>& shape) {
      return file.read(fmt::format("model.layers.{}.{}.weight", i, name), shape);
    };
    out.layers.push_back({.attention_norm = read("input_layernorm", {hidden}),
                          .q = read("self_attn.q_proj", {query_width, hidden}),
                          .k = read("self_attn.k_proj", {kv_width, hidden}),
                          .v = read("self_attn.v_proj", {kv_width, hidden}),
                          .o = read("self_attn.o_proj", {hidden, query_width}),
                          .mlp_norm = read("post_attention_layernorm", {hidden}),
                          .gate = read("mlp.gate_proj", {config.feed_forward, hidden}),
                          .up = read("mlp.up_proj", {config.feed_forward, hidden}),
                          .down = read("mlp.down_proj", {hidden, config.feed_forward})});
  }
  out.final_norm = file.read("model.norm.weight", {hidden});
  if (!config.tied_output) {
    out.head = file.read("lm_head.weight", {config.vocabulary, hidden});
  }
  refuse_unknown_tensors(file, config);
  return out;
}

}  // namespace kvkeep_eval
