// parameter: what a preset says of its parameters, so that programs can list, check and parse them.
//
// A preset is an aggregate with
//   static constexpr std::string_view name;              // in spec strings
//   static constexpr std::string_view idea;              // one sentence
//   static constexpr auto parameters();                  // std::tuple of the types below
//   result<void> check() const;                          // parameters out of range
//   constexpr auto rules() const;                        // the policy it stands for
#ifndef KVKEEP_POLICY_PARAMETER_HPP
#define KVKEEP_POLICY_PARAMETER_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Tokens that any share or window may have at most.
inline constexpr std::size_t most_tokens = 2147483647;

/// A count of tokens.
template <class Preset>
struct token_parameter {
  std::string_view name;
  std::size_t Preset::*member;
  std::size_t least;  ///< smallest value allowed; the largest is most_tokens
  std::string_view meaning;
};

/// A count of tokens that follows from others unless it is given.
template <class Preset>
struct derived_token_parameter {
  std::string_view name;
  std::optional<std::size_t> Preset::*member;
  std::size_t least;
  std::string_view otherwise;  ///< what it is when not given, in words
  std::string_view meaning;
};

/// A number that counts nothing, such as a seed: any of 0 .. 2^64 - 1.
template <class Preset>
struct number_parameter {
  std::string_view name;
  std::uint64_t Preset::*member;
  std::string_view meaning;
};

/// A number greater than 0, up to 1.
template <class Preset>
struct fraction_parameter {
  std::string_view name;
  double Preset::*member;
  std::string_view meaning;
};
inline constexpr std::string_view fraction_range = "greater than 0, up to 1";

/// One of a few names.
template <class Preset, class Enum, std::size_t N>
struct choice_parameter {
  std::string_view name;
  Enum Preset::*member;
  std::array<std::pair<std::string_view, Enum>, N> choices;
  std::string_view meaning;
};

namespace detail {

template <class Preset>
[[nodiscard]] result<void> check_parameter(const Preset& preset, const token_parameter<Preset>& p) {
  const std::size_t value = preset.*(p.member);
  if (value >= p.least && value <= most_tokens) return {};
  return bad_argument(p.name, value, fmt::format("{} .. {}", p.least, most_tokens));
}
template <class Preset>
[[nodiscard]] result<void> check_parameter(const Preset& preset, const derived_token_parameter<Preset>& p) {
  const auto& value = preset.*(p.member);
  if (!value || (*value >= p.least && *value <= most_tokens)) return {};
  return bad_argument(p.name, *value, fmt::format("{} .. {}", p.least, most_tokens));
}
template <class Preset>
[[nodiscard]] result<void> check_parameter(const Preset&, const number_parameter<Preset>&) {
  return {};
}
template <class Preset>
[[nodiscard]] result<void> check_parameter(const Preset& preset, const fraction_parameter<Preset>& p) {
  const double value = preset.*(p.member);
  if (value > 0.0 && value <= 1.0) return {};
  return bad_argument(p.name, value, fraction_range);
}
template <class Preset, class Enum, std::size_t N>
[[nodiscard]] result<void> check_parameter(const Preset& preset, const choice_parameter<Preset, Enum, N>& p) {
  for (const auto& [text, value] : p.choices) {
    if (value == preset.*(p.member)) return {};
  }
  return bad_argument(p.name, static_cast<int>(preset.*(p.member)), "a named choice");
}

}  // namespace detail

/// The error of the first parameter that is out of its range; what a preset's check() returns when ranges are all it has.
template <class Preset>
[[nodiscard]] result<void> check_parameters(const Preset& preset) {
  result<void> first;
  std::apply([&](const auto&... p) { ((first ? void(first = detail::check_parameter(preset, p)) : void()), ...); },
             Preset::parameters());
  return first;
}

KVKEEP_NAMESPACE_END

#endif
