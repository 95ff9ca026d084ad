#include "made_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "fake_model.hpp"
#include "matrix.hpp"
#include "support.hpp"

namespace kvkeep_eval_test {

namespace {

using kvkeep_eval::index;
using kvkeep_eval::llama_config;
using kvkeep_eval::llama_weights;
using kvkeep_eval::matrix;

// Tensor `number` of a model, [rows, columns]: hashed integers in [-1, 1), scaled by 4 / sqrt(columns).
matrix made_tensor(std::uint64_t number, std::size_t rows, std::size_t columns) {
  matrix out(index(rows), index(columns));
  const double scale = 4.0 / std::sqrt(static_cast<double>(columns));
  for (Eigen::Index i = 0; i < out.size(); ++i) {
    std::uint64_t h = (static_cast<std::uint64_t>(i + 1) * 2654435761U + number * 2246822519U) & 0xFFFFFFFFU;
    h ^= h >> 15U;
    h = (h * 73244475U) & 0xFFFFFFFFU;
    h ^= h >> 13U;
    out(i) = static_cast<float>((std::ldexp(static_cast<double>(h >> 8U), -23) - 1.0) * scale);
  }
  return out;
}

std::string_view bytes_of(const matrix& m) {
  return {static_cast<const char*>(static_cast<const void*>(m.data())),
          static_cast<std::size_t>(m.size()) * sizeof(float)};
}

// The rows of each head, (c, c + dim / 2) apart, with the pairs side by side.
matrix interleave(const matrix& rows, std::size_t head_dim) {
  matrix out(rows.rows(), rows.cols());
  const Eigen::Index half = index(head_dim / 2);
  for (Eigen::Index i = 0; i < rows.rows(); ++i) {
    const Eigen::Index head = i / (2 * half) * (2 * half);
    const Eigen::Index c = i - head;
    out.row(head + (c < half ? 2 * c : 2 * (c - half) + 1)) = rows.row(i);
  }
  return out;
}

}  // namespace

llama_weights made_weights(const llama_config& config) {
  const std::size_t hidden = config.hidden;
  const std::size_t query_width = config.query_heads * config.head_dim;
  const std::size_t kv_width = config.kv_heads * config.head_dim;
  std::uint64_t number = 0;
  const auto next = [&](std::size_t rows, std::size_t columns) { return made_tensor(number++, rows, columns); };

  llama_weights out;
  out.embedding = next(config.vocabulary, hidden);
  for (std::size_t i = 0; i < config.layers; ++i) {
    llama_weights::layer& layer = out.layers.emplace_back();
    layer.attention_norm = next(1, hidden);
    layer.q = next(query_width, hidden);
    layer.k = next(kv_width, hidden);
    layer.v = next(kv_width, hidden);
    layer.o = next(hidden, query_width);
    layer.mlp_norm = next(1, hidden);
    layer.gate = next(config.feed_forward, hidden);
    layer.up = next(config.feed_forward, hidden);
    layer.down = next(hidden, config.feed_forward);
  }
  out.final_norm = next(1, hidden);
  out.head = next(config.vocabulary, hidden);
  return out;
}

void write_hugging_face(const std::filesystem::path& directory, std::string_view config_json) {
  const llama_config config = kvkeep_eval::parse_llama_config(config_json, "config.json");
  const llama_weights made = made_weights(config);
  weights file;
  const auto add = [&](const std::string& name, const matrix& tensor) {
    const std::vector<std::size_t> vector{static_cast<std::size_t>(tensor.cols())};
    const std::vector<std::size_t> shape{static_cast<std::size_t>(tensor.rows()), vector[0]};
    file.add(name + ".weight", "F32", tensor.rows() == 1 ? vector : shape, bytes_of(tensor));
  };
  add("model.embed_tokens", made.embedding);
  for (std::size_t i = 0; i < config.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    add(layer + "input_layernorm", made.layers[i].attention_norm);
    add(layer + "self_attn.q_proj", made.layers[i].q);
    add(layer + "self_attn.k_proj", made.layers[i].k);
    add(layer + "self_attn.v_proj", made.layers[i].v);
    add(layer + "self_attn.o_proj", made.layers[i].o);
    add(layer + "post_attention_layernorm", made.layers[i].mlp_norm);
    add(layer + "mlp.gate_proj", made.layers[i].gate);
    add(layer + "mlp.up_proj", made.layers[i].up);
    add(layer + "mlp.down_proj", made.layers[i].down);
  }
  add("model.norm", made.final_norm);
  if (!config.tied_output) add("lm_head", made.head);

  std::vector<llama2c_piece> pieces = llama2c_pieces({});
  while (pieces.size() < config.vocabulary) pieces.push_back({fmt::format("piece{}", pieces.size()), 0});
  write_file(directory / "config.json", config_json);
  write_file(directory / "model.safetensors", file.bytes());
  write_file(directory / "tokenizer.model", llama2c_tokenizer_bytes(pieces));
}

std::string llama2c_bytes(llama2c_form form, const llama_config& config, const llama_weights& weights) {
  using layer = llama_weights::layer;
  std::string out;
  const auto add = [&](const matrix& tensor) { out += bytes_of(tensor); };
  const auto add_layers = [&](matrix layer::*tensor) {
    for (const layer& l : weights.layers) add(l.*tensor);
  };
  const auto add_turned = [&](matrix layer::*tensor) {
    for (const layer& l : weights.layers) add(interleave(l.*tensor, config.head_dim));
  };
  const auto add_header = [&](bool negative) {
    const std::size_t numbers[] = {config.hidden,   config.feed_forward, config.layers,        config.query_heads,
                                   config.kv_heads, config.vocabulary,   config.trained_length};
    for (const std::size_t& number : numbers) {
      const bool vocabulary = &number == &numbers[5];
      out += bytes_of_number(static_cast<std::int32_t>(number) * (vocabulary && negative ? -1 : 1));
    }
  };
  const auto add_attention = [&] {
    add_turned(&layer::q);
    add_turned(&layer::k);
    add_layers(&layer::v);
    add_layers(&layer::o);
  };
  const auto add_feed_forward = [&] {
    add_layers(&layer::gate);
    add_layers(&layer::down);
    add_layers(&layer::up);
  };
  if (form == llama2c_form::legacy) {
    add_header(!config.tied_output);
    add(weights.embedding);
    add_layers(&layer::attention_norm);
    add_attention();
    add_layers(&layer::mlp_norm);
    add_feed_forward();
    add(weights.final_norm);
    out.append(config.trained_length * config.head_dim * sizeof(float), '\x7f');  // nobody may read the tables
  } else {
    out = "24ka";
    out += bytes_of_number(std::int32_t{1});
    add_header(false);
    out += config.tied_output ? '\1' : '\0';
    out.resize(256, '\0');
    add_layers(&layer::attention_norm);
    add_layers(&layer::mlp_norm);
    add(weights.final_norm);
    add(weights.embedding);
    add_attention();
    add_feed_forward();
  }
  if (!config.tied_output) add(weights.head);
  return out;
}

std::vector<llama2c_piece> llama2c_pieces(const std::vector<llama2c_piece>& more) {
  std::vector<llama2c_piece> out{{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}};
  for (int byte = 0; byte < 256; ++byte) out.push_back({fmt::format("<0x{:02X}>", byte), 0});
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

std::string llama2c_tokenizer_bytes(const std::vector<llama2c_piece>& pieces) {
  std::size_t longest = 0;
  for (const llama2c_piece& piece : pieces) longest = std::max(longest, piece.text.size());
  std::string out = bytes_of_number(static_cast<std::int32_t>(longest));
  for (const llama2c_piece& piece : pieces) {
    out += bytes_of_number(piece.score) + bytes_of_number(static_cast<std::int32_t>(piece.text.size())) + piece.text;
  }
  return out;
}

}  // namespace kvkeep_eval_test
