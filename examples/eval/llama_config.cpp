#include "llama_config.hpp"

#include "config_fields.hpp"
#include "failure.hpp"
#include "rope_config.hpp"
#include "text.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace kvkeep_eval {

namespace {

using nlohmann::json;

void require_plain_llama(const config_fields& config) {
  const json* const architectures = config.find("architectures");
  if (architectures == nullptr || *architectures != json::array({"LlamaForCausalLM"})) {
    config.refuse(fmt::format("architectures is {}; only [\"LlamaForCausalLM\"] is supported",
                              architectures == nullptr ? "missing" : architectures->dump()));
  }
  for (const char* const bias : {"attention_bias", "mlp_bias"}) {
    if (config.flag(bias)) {
      config.refuse(fmt::format("{} is true, which is not supported", bias));
    }
  }
  const json* const activation = config.find("hidden_act");
  if (activation != nullptr && *activation != "silu") {
    config.refuse(fmt::format("hidden_act is {}; only \"silu\" is supported", activation->dump()));
  }
  if (config.find("quantization_config") != nullptr) {
    config.refuse("quantization_config is present; quantised weights are not supported");
  }
}

// The ids in eos_token_id, which is one number or a list.
std::vector<int> end_of_stream(const config_fields& config, std::size_t vocabulary) {
  const json* const value = config.find("eos_token_id");
  if (value == nullptr) {
    return {};
  }
  std::vector<int> out;
  for (const json& id : value->is_array() ? *value : json::array({*value})) {
    if (!id.is_number_integer() || id < 0 || id >= vocabulary) {
      config.refuse(
          fmt::format("eos_token_id is {}; it must be whole numbers below vocab_size, {}", value->dump(), vocabulary));
    }
    out.push_back(id.get<int>());
  }
  return out;
}

llama_config convert(const json& object, const std::string& path) {
  const config_fields config(object, path);
  require_plain_llama(config);
  llama_config out;
  out.layers = config.count("num_hidden_layers");
  out.hidden = config.count("hidden_size");
  out.feed_forward = config.count("intermediate_size");
  out.query_heads = config.count("num_attention_heads");
  out.kv_heads = config.count("num_key_value_heads", out.query_heads);
  if (out.query_heads % out.kv_heads != 0) {
    config.refuse(fmt::format("num_attention_heads is {}, not a multiple of num_key_value_heads, {}", out.query_heads,
                              out.kv_heads));
  }
  if (config.find("head_dim") == nullptr && out.hidden % out.query_heads != 0) {
    config.refuse(fmt::format("hidden_size is {}, not a multiple of num_attention_heads, {}, and head_dim is missing",
                              out.hidden, out.query_heads));
  }
  out.head_dim = config.count("head_dim", out.hidden / out.query_heads);
  if (out.head_dim % 2 != 0) {
    config.refuse(fmt::format("head_dim is {}; rotary positions need an even one", out.head_dim));
  }
  out.vocabulary = config.count("vocab_size");
  out.trained_length = config.count("max_position_embeddings");
  out.positions = parse_rope(config, out.head_dim);
  out.norm_epsilon = config.positive("rms_norm_eps", 1e-6);
  out.tied_output = config.flag("tie_word_embeddings");
  if (const json* const bos = config.find("bos_token_id")) {
    if (!bos->is_number_integer() || *bos < 0 || *bos >= out.vocabulary) {
      config.refuse(fmt::format("bos_token_id is {}; it must be a whole number below vocab_size, {}", bos->dump(),
                                out.vocabulary));
    }
    out.begin_of_stream = bos->get<int>();
  }
  out.end_of_stream = end_of_stream(config, out.vocabulary);
  return out;
}

}  // namespace

llama_config parse_llama_config(std::string_view text, const std::string& path) {
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    throw failure(
        fmt::format("{}: {}", path, object.is_discarded() ? "is not well-formed JSON" : "is not a JSON object"));
  }
  return convert(object, path);
}

llama_config read_llama_config(const std::filesystem::path& path) {
  return parse_llama_config(read_file(path), path.string());
}

}  // namespace kvkeep_eval
