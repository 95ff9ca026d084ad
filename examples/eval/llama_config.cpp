#include "llama_config.hpp"

#include "failure.hpp"
#include "text.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>

namespace kvkeep_eval {

namespace {

using nlohmann::json;

// A config.json being read, one checked field at a time; null counts as absent, as in Hugging Face's own reader.
class fields {
 public:
  fields(const json& object, const std::string& path) : object_(object), path_(path) {}

  [[noreturn]] void refuse(const std::string& why) const { throw failure(fmt::format("{}: {}", path_, why)); }

  [[nodiscard]] const json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  [[nodiscard]] std::size_t count(const char* name, std::optional<std::size_t> otherwise = {}) const {
    constexpr std::int64_t largest = std::int64_t{1} << 24;  // keeps every product of two within 64 bits
    const json* const value = find(name);
    if (value == nullptr && otherwise) {
      return *otherwise;
    }
    if (value == nullptr) {
      refuse(fmt::format("{} is missing", name));
    }
    if (!value->is_number_integer() || *value < 1 || *value > largest) {
      refuse(fmt::format("{} is {}; it must be a whole number from 1 to {}", name, value->dump(), largest));
    }
    return value->get<std::size_t>();
  }

  [[nodiscard]] double positive(const char* name, double otherwise) const {
    const json* const value = find(name);
    if (value == nullptr) {
      return otherwise;
    }
    if (!value->is_number() || !(value->get<double>() > 0) || !std::isfinite(value->get<double>())) {
      refuse(fmt::format("{} is {}; it must be a positive number", name, value->dump()));
    }
    return value->get<double>();
  }

  [[nodiscard]] bool flag(const char* name) const {
    const json* const value = find(name);
    if (value != nullptr && !value->is_boolean()) {
      refuse(fmt::format("{} is {}; it must be true or false", name, value->dump()));
    }
    return value != nullptr && value->get<bool>();
  }

 private:
  const json& object_;
  const std::string& path_;
};

void require_plain_llama(const fields& config) {
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

// The base of the rotary frequencies; newer files keep it in rope_parameters, together with the scaling.
double rope_theta(const fields& config, const std::string& path) {
  double theta = config.positive("rope_theta", 10000.0);
  for (const char* const name : {"rope_scaling", "rope_parameters"}) {
    const json* const value = config.find(name);
    if (value == nullptr) {
      continue;
    }
    if (!value->is_object()) {
      config.refuse(fmt::format("{} is {}; it must be an object", name, value->dump()));
    }
    const fields scaling(*value, path);
    const json* const newer = scaling.find("rope_type");
    const json* const type = newer != nullptr ? newer : scaling.find("type");
    if (type != nullptr && *type != "default") {
      config.refuse(fmt::format("{} of type {} is not supported", name, type->dump()));
    }
    theta = scaling.positive("rope_theta", theta);
  }
  return theta;
}

llama_config convert(const json& object, const std::string& path) {
  const fields config(object, path);
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
  out.rope_theta = rope_theta(config, path);
  out.norm_epsilon = config.positive("rms_norm_eps", 1e-6);
  out.tied_output = config.flag("tie_word_embeddings");
  if (const json* const bos = config.find("bos_token_id")) {
    if (!bos->is_number_integer() || *bos < 0 || *bos >= out.vocabulary) {
      config.refuse(fmt::format("bos_token_id is {}; it must be a whole number below vocab_size, {}", bos->dump(),
                                out.vocabulary));
    }
    out.begin_of_stream = bos->get<int>();
  }
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
