#include "fake_model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <functional>
#include <numeric>

namespace kvkeep_eval_test {

std::string safetensors_bytes(std::string_view header, std::string_view data) {
  std::string out;
  for (std::uint64_t i = 0, length = header.size(); i < 8; ++i, length >>= 8U) {
    out += static_cast<char>(static_cast<unsigned char>(length & 0xFFU));
  }
  return out.append(header).append(data);
}

void weights::add(const std::string& name, std::string_view dtype, const std::vector<std::size_t>& shape,
                  std::string_view bytes) {
  entries_[name] = {fmt::format("\"{}\"", dtype), fmt::format("[{}]", fmt::join(shape, ", ")),
                    fmt::format("[{}, {}]", data_.size(), data_.size() + bytes.size())};
  data_ += bytes;
}

std::string weights::header() const {
  std::string out = R"({"__metadata__": {"format": "pt"})";
  for (const auto& [name, tensor] : entries_) {
    out += fmt::format(R"(, "{}": {{"dtype": {}, "shape": {}, "data_offsets": {}}})", name, tensor.dtype, tensor.shape,
                       tensor.offsets);
  }
  return out + "}";
}

fake_model::fake_model()
    : config{{"architectures", R"(["LlamaForCausalLM"])"},
             {"num_hidden_layers", "1"},
             {"hidden_size", "4"},
             {"intermediate_size", "6"},
             {"num_attention_heads", "2"},
             {"num_key_value_heads", "1"},
             {"vocab_size", "2048"},
             {"max_position_embeddings", "8"},
             {"tie_word_embeddings", "true"},
             {"bos_token_id", "1"}} {
  const auto add = [this](const std::string& name, const std::vector<std::size_t>& shape) {
    const std::size_t elements = std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
    tensors.add(name + ".weight", "BF16", shape, std::string(2 * elements, '\0'));
  };
  add("model.embed_tokens", {2048, 4});
  add("model.layers.0.input_layernorm", {4});
  add("model.layers.0.self_attn.q_proj", {4, 4});
  add("model.layers.0.self_attn.k_proj", {2, 4});
  add("model.layers.0.self_attn.v_proj", {2, 4});
  add("model.layers.0.self_attn.o_proj", {4, 4});
  add("model.layers.0.post_attention_layernorm", {4});
  add("model.layers.0.mlp.gate_proj", {6, 4});
  add("model.layers.0.mlp.up_proj", {6, 4});
  add("model.layers.0.mlp.down_proj", {4, 6});
  add("model.norm", {4});

  write_config();
  write_weights();
  std::filesystem::copy_file(bundled_model() / "tokenizer.model", file("tokenizer.model"));
  options.model = directory();
  options.text = file("text.txt");
  options.tokens = 5;
  options.policies = {"dense"};
  write_file(options.text, "The world will little note, nor long remember what we say here.\n");
}

void fake_model::write_config() const {
  std::string out;
  for (const auto& [name, value] : config) {
    out += fmt::format("{}\"{}\": {}", out.empty() ? "{" : ", ", name, value);
  }
  write_file(file("config.json"), out + "}");
}

void fake_model::expect_refused(const std::vector<std::string>& named) const {
  expect_failure([this] { static_cast<void>(run()); }, named);
}

}  // namespace kvkeep_eval_test
