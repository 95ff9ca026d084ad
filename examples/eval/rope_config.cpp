#include "rope_config.hpp"

#include <kvkeep/position/rope_frequencies.hpp>

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace kvkeep_eval {

namespace {

using nlohmann::json;

// What a scaling is computed from: its own object, and the fields beside it.
struct scaling_source {
  const config_fields& config;
  const config_fields& scaling;
  std::size_t head_dim;

  // The length that the model was first trained for. The field beside the scaling wins over the one inside, and the
  // length of the whole model serves if there is neither.
  [[nodiscard]] double original_length() const {
    const char* const name = "original_max_position_embeddings";
    const config_fields& owner = config.find(name) != nullptr ? config : scaling;
    return static_cast<double>(owner.count(name, config.count("max_position_embeddings")));
  }

  // The scaling's factor, or how much longer the model is than what it was first trained for.
  [[nodiscard]] double factor_or_ratio() const {
    const auto length = static_cast<double>(config.count("max_position_embeddings"));
    return scaling.positive("factor", length / original_length());
  }
};

// The factor on q and on k that YaRN's authors fitted, weighted by `mscale`.
double yarn_magnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

kvkeep::yarn_scaling parse_yarn(const scaling_source& from) {
  const config_fields& scaling = from.scaling;
  if (!scaling.flag("truncate", true)) {
    scaling.refuse(fmt::format("{} is false, which is not supported", scaling.full_name("truncate")));
  }
  kvkeep::yarn_scaling out{.factor = from.factor_or_ratio(),
                           .original_max_position = from.original_length(),
                           .beta_fast = scaling.positive("beta_fast", 32.0),
                           .beta_slow = scaling.positive("beta_slow", 1.0),
                           .attention_factor = scaling.find_positive("attention_factor")};
  if (out.beta_fast < out.beta_slow) {
    scaling.refuse(fmt::format("{} is {}; it must be at least beta_slow, {}", scaling.full_name("beta_fast"),
                               out.beta_fast, out.beta_slow));
  }
  const std::optional<double> mscale = scaling.find_positive("mscale");
  const std::optional<double> all_dim = scaling.find_positive("mscale_all_dim");
  if (!out.attention_factor && mscale && all_dim) {  // one of the two alone has no effect
    out.attention_factor = yarn_magnitude(out.factor, *mscale) / yarn_magnitude(out.factor, *all_dim);
  }
  return out;
}

kvkeep::llama3_scaling parse_llama3(const scaling_source& from) {
  const config_fields& scaling = from.scaling;
  kvkeep::llama3_scaling out{.factor = scaling.positive("factor"),
                             .original_max_position = from.original_length(),
                             .low_freq_factor = scaling.positive("low_freq_factor"),
                             .high_freq_factor = scaling.positive("high_freq_factor")};
  if (out.high_freq_factor <= out.low_freq_factor) {
    scaling.refuse(fmt::format("{} is {}; it must be above low_freq_factor, {}", scaling.full_name("high_freq_factor"),
                               out.high_freq_factor, out.low_freq_factor));
  }
  return out;
}

kvkeep::longrope_scaling parse_longrope(const scaling_source& from) {
  return {.short_factor = from.scaling.positives("short_factor", from.head_dim / 2),
          .long_factor = from.scaling.positives("long_factor", from.head_dim / 2),
          .factor = from.factor_or_ratio(),
          .original_max_position = from.original_length(),
          .attention_factor = from.scaling.find_positive("attention_factor")};
}

kvkeep::rope_scaling parse_scaling(const scaling_source& from) {
  const char* const name = from.scaling.find("rope_type") != nullptr ? "rope_type" : "type";
  const json* const type = from.scaling.find(name);
  if (type == nullptr || *type == "default") {
    return {};
  }
  if (*type == "linear") {
    return kvkeep::linear_scaling{.factor = from.scaling.positive("factor")};
  }
  if (*type == "yarn") {
    return parse_yarn(from);
  }
  if (*type == "llama3") {
    return parse_llama3(from);
  }
  if (*type == "longrope") {
    return parse_longrope(from);
  }
  const std::string what = fmt::format("{} is {}", from.scaling.full_name(name), type->dump());
  if (*type == "dynamic") {
    from.scaling.refuse(what + ", which is not supported: its frequencies change with every token of the stream");
  }
  from.scaling.refuse(what + "; supported are \"default\", \"linear\", \"llama3\", \"yarn\" and \"longrope\"");
}

// A failure if the numbers, each within its range, still give no frequencies; those for short and long streams differ.
void require_frequencies(const kvkeep::rope& positions, const scaling_source& from) {
  for (const std::size_t length : {std::size_t{1}, std::numeric_limits<std::size_t>::max()}) {
    if (const auto made = kvkeep::try_rope_frequencies(positions, from.head_dim, length); !made) {
      from.config.refuse(fmt::format("the rotary positions are not usable: {}", made.error().what()));
    }
  }
}

}  // namespace

kvkeep::rope parse_rope(const config_fields& config, std::size_t head_dim) {
  if (const double part = config.positive("partial_rotary_factor", 1.0); part != 1.0) {
    config.refuse(fmt::format("partial_rotary_factor is {}; only 1 is supported", part));
  }
  // An empty rope_scaling counts as none, and one that is not empty wins over rope_parameters.
  const json* object = config.find("rope_scaling");
  const bool older = object != nullptr && *object != json::object();
  const char* const name = older ? "rope_scaling" : "rope_parameters";
  object = config.find(name);

  const json none = json::object();
  if (object != nullptr && !object->is_object()) {
    config.refuse(fmt::format("{} is {}; it must be an object", name, object->dump()));
  }
  const std::string inside = std::string(name) + ".";
  const config_fields scaling(object != nullptr ? *object : none, config.path(), inside.c_str());
  if (const double part = scaling.positive("partial_rotary_factor", 1.0); part != 1.0) {
    scaling.refuse(fmt::format("{} is {}; only 1 is supported", scaling.full_name("partial_rotary_factor"), part));
  }
  for (const auto& [key, value] : object != nullptr ? object->items() : none.items()) {
    if (value.is_object()) {
      scaling.refuse(fmt::format("{} is an object; positions that differ by layer are not supported",
                                 scaling.full_name(key.c_str())));
    }
  }
  const scaling_source from{.config = config, .scaling = scaling, .head_dim = head_dim};
  kvkeep::rope out{.theta = scaling.positive("rope_theta", config.positive("rope_theta", 10000.0)),
                   .scaling = parse_scaling(from)};
  require_frequencies(out, from);
  return out;
}

}  // namespace kvkeep_eval
