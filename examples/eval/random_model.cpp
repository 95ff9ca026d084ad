#include "random_model.hpp"

#include "failure.hpp"
#include "llama_config.hpp"
#include "tokenizer.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <bit>
#include <cmath>
#include <fstream>
#include <ios>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace kvkeep_eval {

namespace {

// A tensor to be written: a matrix of random numbers, or a vector of ones.
struct tensor {
  std::string name;
  std::vector<std::size_t> shape;

  [[nodiscard]] std::size_t inputs() const noexcept { return shape.back(); }
  [[nodiscard]] std::size_t elements() const noexcept { return shape.size() == 1 ? shape[0] : shape[0] * shape[1]; }
};

std::string config_text(const random_model_options& o, std::size_t vocabulary, int begin_of_stream) {
  return nlohmann::ordered_json{{"architectures", {"LlamaForCausalLM"}},
                                {"num_hidden_layers", o.layers},
                                {"hidden_size", o.hidden},
                                {"intermediate_size", o.feed_forward},
                                {"num_attention_heads", o.query_heads},
                                {"num_key_value_heads", o.kv_heads},
                                {"head_dim", o.head_dim},
                                {"vocab_size", vocabulary},
                                {"max_position_embeddings", o.trained_length},
                                {"rope_theta", 10000.0},
                                {"rms_norm_eps", 1e-5},
                                {"hidden_act", "silu"},
                                {"tie_word_embeddings", true},
                                {"bos_token_id", begin_of_stream},
                                {"torch_dtype", "bfloat16"}}
             .dump(2) +
         "\n";
}

std::vector<tensor> tensors_of(const random_model_options& o, std::size_t vocabulary) {
  const std::size_t query_width = o.query_heads * o.head_dim;
  const std::size_t kv_width = o.kv_heads * o.head_dim;
  std::vector<tensor> out{{"model.embed_tokens.weight", {vocabulary, o.hidden}}};
  for (std::size_t i = 0; i < o.layers; ++i) {
    const auto add = [&](const char* name, std::vector<std::size_t> shape) {
      out.push_back({fmt::format("model.layers.{}.{}.weight", i, name), std::move(shape)});
    };
    add("input_layernorm", {o.hidden});
    add("self_attn.q_proj", {query_width, o.hidden});
    add("self_attn.k_proj", {kv_width, o.hidden});
    add("self_attn.v_proj", {kv_width, o.hidden});
    add("self_attn.o_proj", {o.hidden, query_width});
    add("post_attention_layernorm", {o.hidden});
    add("mlp.gate_proj", {o.feed_forward, o.hidden});
    add("mlp.up_proj", {o.feed_forward, o.hidden});
    add("mlp.down_proj", {o.hidden, o.feed_forward});
  }
  out.push_back({"model.norm.weight", {o.hidden}});
  return out;
}

// The upper half of a float: bf16, cut off.
std::uint16_t upper_half(float x) noexcept {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16U);
}

void write_tensor(std::ofstream& file, const tensor& t, std::mt19937& random, const std::function<bool()>& stop) {
  std::vector<std::uint16_t> row(t.inputs(), upper_half(1.0F));
  const float spread = 2.0F * std::sqrt(3.0F / static_cast<float>(t.inputs()));  // of numbers with variance 1 / inputs
  for (std::size_t first = 0; first < t.elements() && !(stop && stop()); first += row.size()) {
    if (t.shape.size() == 2) {
      for (std::uint16_t& x : row) {
        x = upper_half((static_cast<float>(random() >> 8U) * 0x1p-24F - 0.5F) * spread);
      }
    }
    const void* const bytes = row.data();
    file.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(row.size() * sizeof row[0]));
  }
}

// The header of a safetensors file, with its length in front.
std::string header_of(const std::vector<tensor>& tensors) {
  nlohmann::ordered_json header;
  std::size_t offset = 0;
  for (const tensor& t : tensors) {
    const std::size_t end = offset + t.elements() * sizeof(std::uint16_t);
    header[t.name] = {{"dtype", "BF16"}, {"shape", t.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  const std::string text = header.dump();
  std::string length;
  for (std::size_t i = 0; i < 8; ++i) {
    length += static_cast<char>(text.size() >> (8 * i) & 0xFFU);
  }
  return length + text;
}

// A directory that is removed again, with all in it, unless it is kept.
class new_directory {
 public:
  explicit new_directory(const std::filesystem::path& path) : path_(path) {
    std::error_code error;
    if (!std::filesystem::create_directory(path, error)) {
      throw failure(fmt::format("{}: {}", path.string(), error ? error.message() : "exists already"));
    }
  }
  new_directory(const new_directory&) = delete;
  new_directory(new_directory&&) = delete;
  new_directory& operator=(const new_directory&) = delete;
  new_directory& operator=(new_directory&&) = delete;
  ~new_directory() {
    if (!kept_) {
      std::error_code ignored;
      std::filesystem::remove_all(path_, ignored);
    }
  }
  void keep() noexcept { kept_ = true; }

 private:
  const std::filesystem::path& path_;
  bool kept_ = false;
};

void require_written(std::ofstream& file, const std::filesystem::path& path) {
  file.close();
  if (!file) {
    throw failure(fmt::format("{}: cannot be written", path.string()));
  }
}

}  // namespace

std::size_t write_random_model(const random_model_options& options, const std::function<bool()>& stop) {
  const tokenizer pieces(options.tokenizer);
  const std::optional<token> begin = pieces.begin_of_stream();
  if (!begin) {
    throw failure(fmt::format("{}: has no BOS piece", options.tokenizer.string()));
  }
  const std::string config = config_text(options, pieces.vocabulary(), *begin);
  static_cast<void>(parse_llama_config(config, "random model"));  // refuses shapes that no model has
  const std::vector<tensor> tensors = tensors_of(options, pieces.vocabulary());

  new_directory directory(options.out);
  std::filesystem::copy_file(options.tokenizer, options.out / "tokenizer.model");
  const std::filesystem::path config_path = options.out / "config.json";
  std::ofstream config_file(config_path, std::ios::binary);
  config_file << config;
  require_written(config_file, config_path);

  const std::filesystem::path weights_path = options.out / "model.safetensors";
  std::ofstream weights(weights_path, std::ios::binary);
  weights << header_of(tensors);
  std::mt19937 random(static_cast<std::mt19937::result_type>(options.seed));
  std::size_t count = 0;
  for (const tensor& t : tensors) {
    write_tensor(weights, t, random, stop);
    if (stop && stop()) {
      return 0;
    }
    count += t.elements();
    if (!weights) {
      break;
    }
  }
  require_written(weights, weights_path);
  directory.keep();
  return count;
}

}  // namespace kvkeep_eval
