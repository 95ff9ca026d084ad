// spec: presets by name: "streaming_llm:sinks=4,window=252" to a policy and back, and what there is to choose from.
//
//   auto policy = kvkeep::parse_policy("lm_infinite:sinks=4,window=252");
//   for (const auto& p : kvkeep::policy_specs()) fmt::print("{}: {}\n", p.name, p.idea);
// Programs have no list of their own: names, parameters, ranges and defaults come from the presets.
#ifndef KVKEEP_POLICY_SPEC_HPP
#define KVKEEP_POLICY_SPEC_HPP

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kvkeep/policy/presets.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Any of the presets, as a value. visit(f) calls f with the preset itself.
class any_policy {
 public:
  template <class Preset>
    requires std::constructible_from<any_preset, Preset> any_policy(Preset preset) : preset_(std::move(preset)) {}

    template <class F>
    decltype(auto) visit(F&& f) const {
      return std::visit(std::forward<F>(f), preset_);
    }
    [[nodiscard]] std::string_view name() const {
      return visit([](const auto& p) { return std::remove_cvref_t<decltype(p)>::name; });
    }
    [[nodiscard]] result<void> check() const {
      return visit([](const auto& p) { return p.check(); });
    }
    /// The spec string with every parameter, which parses to the same policy.
    [[nodiscard]] std::string spec() const;

   private:
    any_preset preset_;
};

/// What a spec may leave open and the program knows.
struct spec_defaults {
  std::size_t max_tokens = 0;  ///< of presets that keep everything; 0: the spec must say
};

/// One parameter of a preset, for help texts.
struct parameter_spec {
  std::string name;
  std::string allowed;   ///< "1 .. 2147483647", or the choices
  std::string fallback;  ///< the default
  std::string meaning;
};

/// One preset, for help texts.
struct policy_spec {
  std::string name;
  std::string idea;
  std::vector<parameter_spec> parameters;
};

/// What a preset, the library's or one of yours, says of itself and its parameters.
template <class Preset>
[[nodiscard]] policy_spec describe_preset();

namespace detail {

template <class Preset>
[[nodiscard]] std::string parameter_text(const Preset& preset, const token_parameter<Preset>& p) {
  return fmt::format("{}", preset.*(p.member));
}
template <class Preset>
[[nodiscard]] std::string parameter_text(const Preset& preset, const derived_token_parameter<Preset>& p) {
  const auto& value = preset.*(p.member);
  return value ? fmt::format("{}", *value) : std::string(p.otherwise);
}
template <class Preset>
[[nodiscard]] std::string parameter_text(const Preset& preset, const number_parameter<Preset>& p) {
  return fmt::format("{}", preset.*(p.member));
}
template <class Preset>
[[nodiscard]] std::string parameter_text(const Preset& preset, const fraction_parameter<Preset>& p) {
  return fmt::format("{}", preset.*(p.member));
}
template <class Preset, class Enum, std::size_t N>
[[nodiscard]] std::string parameter_text(const Preset& preset, const choice_parameter<Preset, Enum, N>& p) {
  for (const auto& [text, value] : p.choices) {
    if (value == preset.*(p.member)) return std::string(text);
  }
  return "?";
}

/// Whether a parameter is a fraction_parameter.
template <class P>
inline constexpr bool is_fraction = false;
template <class Preset>
inline constexpr bool is_fraction<fraction_parameter<Preset>> = true;

/// The range of a parameter that is a count or another whole number.
struct number_range {
  std::uint64_t least;
  std::uint64_t most;
};
template <class P>
[[nodiscard]] constexpr number_range range_of(const P& p) noexcept {
  if constexpr (requires { p.least; }) {
    return {p.least, most_tokens};
  } else {
    return {0, (std::numeric_limits<std::uint64_t>::max)()};
  }
}
template <class P>
[[nodiscard]] std::string allowed_text(const P& p) {
  if constexpr (requires { p.choices; }) {
    std::string all;
    for (const auto& [text, value] : p.choices) all += (all.empty() ? "" : " | ") + std::string(text);
    return all;
  } else if constexpr (is_fraction<P>) {
    return std::string(fraction_range);
  } else {
    const number_range range = range_of(p);
    return fmt::format("{} .. {}", range.least, range.most);
  }
}

/// Reads the whole of a text as a number.
template <class Number>
[[nodiscard]] bool read_number(std::string_view text, Number& out) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), out);
  return failure == std::errc{} && end == text.data() + text.size();
}

/// Sets a parameter from text; an error names it, the text and what is allowed.
template <class Preset, class P>
[[nodiscard]] result<void> set_parameter(Preset& preset, const P& p, std::string_view text) {
  if constexpr (requires { p.choices; }) {
    for (const auto& [choice, value] : p.choices) {
      if (choice != text) continue;
      preset.*(p.member) = value;
      return {};
    }
    return bad_argument(p.name, text, allowed_text(p));
  } else if constexpr (is_fraction<P>) {
    double value = 0.0;
    if (!read_number(text, value) || !(value > 0.0 && value <= 1.0)) {
      return bad_argument(p.name, text, allowed_text(p));
    }
    preset.*(p.member) = value;
    return {};
  } else {
    if constexpr (requires { p.otherwise; }) {
      if (text == p.otherwise) {
        (preset.*(p.member)).reset();
        return {};
      }
    }
    const number_range range = range_of(p);
    std::uint64_t value = 0;
    if (!read_number(text, value) || value < range.least || value > range.most) {
      return bad_argument(p.name, text, allowed_text(p));
    }
    using number = std::remove_cvref_t<decltype(preset.*(p.member))>;
    preset.*(p.member) = static_cast<number>(value);
    return {};
  }
}

template <class Preset>
[[nodiscard]] std::string parameter_names() {
  std::string all;
  std::apply([&](const auto&... p) { ((all += (all.empty() ? "" : ", ") + std::string(p.name)), ...); },
             Preset::parameters());
  return all;
}

/// Text up to the first `stop`, which is cut off `rest` together with it.
[[nodiscard]] inline std::string_view cut(std::string_view& rest, char stop) {
  const std::size_t at = rest.find(stop);
  const std::string_view head = rest.substr(0, at);
  rest = at == std::string_view::npos ? std::string_view{} : rest.substr(at + 1);
  return head;
}

template <class Preset>
[[nodiscard]] result<void> set_by_name(Preset& preset, std::string_view key, std::string_view value) {
  result<void> outcome =
      make_error(errc::invalid_argument, key,
                 fmt::format("{} has no parameter '{}'; it has: {}", Preset::name, key, parameter_names<Preset>()));
  std::apply(
      [&](const auto&... p) { ((p.name == key ? void(outcome = set_parameter(preset, p, value)) : void()), ...); },
      Preset::parameters());
  return outcome;
}

/// The preset of this type that a list "key=value,..." describes.
template <class Preset>
[[nodiscard]] result<Preset> parse_parameters(std::string_view list, bool has_list, const spec_defaults& defaults) {
  Preset preset;
  std::string seen = ",";
  while (has_list) {
    const bool more = list.find(',') != std::string_view::npos;
    std::string_view value = cut(list, ',');
    const bool assigned = value.find('=') != std::string_view::npos;
    const std::string_view key = cut(value, '=');
    if (!assigned || key.empty() || value.empty()) {
      return bad_argument("policy spec", fmt::format("'{}' in {}", key, Preset::name),
                          "key=value, separated by commas");
    }
    if (seen.find(fmt::format(",{},", key)) != std::string::npos) {
      return make_error(errc::invalid_argument, key, fmt::format("{} is given twice to {}", key, Preset::name));
    }
    if (auto ok = set_by_name(preset, key, value); !ok) return ok.error();
    seen += fmt::format("{},", key);
    has_list = more;
  }
  if constexpr (requires { preset.max_tokens; }) {
    if (preset.max_tokens == 0) preset.max_tokens = defaults.max_tokens;
  }
  if (auto ok = preset.check(); !ok) return ok.error();
  return preset;
}

template <std::size_t I = 0>
[[nodiscard]] result<any_policy> parse_named(std::string_view name, std::string_view list, bool has_list,
                                             const spec_defaults& defaults, std::string known = {}) {
  if constexpr (I == std::variant_size_v<any_preset>) {
    return make_error(errc::invalid_argument, "policy", fmt::format("unknown policy '{}'; known: {}", name, known));
  } else {
    using preset = std::variant_alternative_t<I, any_preset>;
    if (name == preset::name) {
      auto parsed = parse_parameters<preset>(list, has_list, defaults);
      if (!parsed) return parsed.error();
      return any_policy(*std::move(parsed));
    }
    known += (known.empty() ? "" : ", ") + std::string(preset::name);
    return parse_named<I + 1>(name, list, has_list, defaults, std::move(known));
  }
}

template <std::size_t... I>
[[nodiscard]] std::vector<policy_spec> describe_presets(std::index_sequence<I...>) {
  return {kvkeep::describe_preset<std::variant_alternative_t<I, any_preset>>()...};
}

}  // namespace detail

template <class Preset>
[[nodiscard]] policy_spec describe_preset() {
  policy_spec out{std::string(Preset::name), std::string(Preset::idea), {}};
  const Preset preset;
  std::apply(
      [&](const auto&... p) {
        (out.parameters.push_back(
             {std::string(p.name), detail::allowed_text(p), detail::parameter_text(preset, p), std::string(p.meaning)}),
         ...);
      },
      Preset::parameters());
  return out;
}

inline std::string any_policy::spec() const {
  return visit([](const auto& preset) {
    using preset_type = std::remove_cvref_t<decltype(preset)>;
    std::string out;
    std::apply(
        [&](const auto&... p) {
          ((out += fmt::format("{}{}={}", out.empty() ? ":" : ",", p.name, detail::parameter_text(preset, p))), ...);
        },
        preset_type::parameters());
    return std::string(preset_type::name) + out;
  });
}

/// All presets, for help texts.
[[nodiscard]] inline std::vector<policy_spec> policy_specs() {
  return detail::describe_presets(std::make_index_sequence<std::variant_size_v<any_preset>>{});
}

/// The policy that "name" or "name:key=value,..." stands for; parameters that are not given have their defaults.
/// Errors: unknown name (with those that are known), unknown parameter (with those the preset has), a value that is no
/// number or out of range, a parameter given twice. Blanks are not skipped.
[[nodiscard]] inline result<any_policy> try_parse_policy(std::string_view text, const spec_defaults& defaults = {}) {
  const bool has_list = text.find(':') != std::string_view::npos;
  std::string_view list = text;
  const std::string_view name = detail::cut(list, ':');
  return detail::parse_named(name, list, has_list, defaults);
}

/// The preset of this type that "name" or "name:key=value,..." stands for: one of the library's, or an aggregate of yours
/// that is described like them (policy/parameter.hpp). Errors as try_parse_policy.
template <class Preset>
[[nodiscard]] result<Preset> try_parse_preset(std::string_view text, const spec_defaults& defaults = {}) {
  const bool has_list = text.find(':') != std::string_view::npos;
  std::string_view list = text;
  const std::string_view name = detail::cut(list, ':');
  if (name != Preset::name) return detail::bad_argument("policy", name, Preset::name);
  return detail::parse_parameters<Preset>(list, has_list, defaults);
}

#if KVKEEP_EXCEPTIONS
template <class Preset>
[[nodiscard]] Preset parse_preset(std::string_view text, const spec_defaults& defaults = {}) {
  return detail::unwrap(try_parse_preset<Preset>(text, defaults));
}
[[nodiscard]] inline any_policy parse_policy(std::string_view text, const spec_defaults& defaults = {}) {
  return detail::unwrap(try_parse_policy(text, defaults));
}
#endif

KVKEEP_NAMESPACE_END

#endif
