// rule_limits: what a rule with its parameters demands of a model, a stream and a schedule, and where its decisions differ.
#ifndef KVKEEP_POLICY_RULE_LIMITS_HPP
#define KVKEEP_POLICY_RULE_LIMITS_HPP

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The scope of a rule with its parameters, at most as fine as scope_of.
template <class R>
[[nodiscard]] constexpr kvkeep::scope used_scope_of(const R& rule) {
  if constexpr (requires { rule.used_scope(); }) {
    return (std::min)(rule.used_scope(), scope_of<R>());
  } else {
    return scope_of<R>();
  }
}
/// The tokens of the longest stream that a retain or select rule can do with.
template <class R>
[[nodiscard]] constexpr std::size_t longest_of(const R& rule) {
  constexpr std::size_t any = (std::numeric_limits<std::size_t>::max)();
  if constexpr (requires {
                  { rule.longest() } -> std::convertible_to<std::size_t>;
                }) {
    const std::size_t most = rule.longest();
    return most == 0 ? any : most;
  } else {
    return any;
  }
}
/// An error where a rule does not fit a model.
template <class R>
[[nodiscard]] result<void> check_shape_of(const R& rule, const model_shape& shape) {
  if constexpr (requires { rule.check_shape(shape); }) return rule.check_shape(shape);
  return {};
}
/// An error where a select rule has no variant for some layer and kv head of a model.
template <class S>
[[nodiscard]] result<void> check_variants_of(const S& rule, const model_shape& shape) {
  if constexpr (requires { rule.variants(); }) {
    const std::size_t variants = rule.variants();
    if (variants < 1) return bad_argument("variants", variants, ">= 1");
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      for (std::size_t head = 0; head < shape.kv_heads; ++head) {
        const std::size_t variant = rule.variant(unit_place{layer, head});
        if (variant < variants) continue;
        return bad_argument(fmt::format("variant of layer {}, kv head {}", layer, head), variant,
                            fmt::format("0 .. {}: the select rule's variants() - 1", variants - 1));
      }
    }
  }
  return {};
}
/// An error where a retain rule does not go with a schedule.
template <class R>
[[nodiscard]] result<void> check_when_of(const R& rule, const schedule& when) {
  if constexpr (requires { rule.check_when(when); }) return rule.check_when(when);
  return {};
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
