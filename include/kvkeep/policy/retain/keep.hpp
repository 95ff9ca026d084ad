// keep{a, b, ...}: the union of retain rules.
//
// Shares are filled in the order written; a token that an earlier rule took costs a later one nothing, so
// min(length, sum of shares) tokens are kept.
#ifndef KVKEEP_POLICY_RETAIN_KEEP_HPP
#define KVKEEP_POLICY_RETAIN_KEEP_HPP

#include <tuple>

#include "kvkeep/policy/policy.hpp"

KVKEEP_NAMESPACE_BEGIN

template <class... Rules>
struct keep {
  static_assert(sizeof...(Rules) >= 1, "kvkeep: keep{} needs at least one retain rule");
  std::tuple<Rules...> rules;

  constexpr keep(Rules... each) : rules(std::move(each)...) {}
};
template <class... Rules>
keep(Rules...) -> keep<Rules...>;

namespace detail {

/// The rules of a retain answer as a tuple: those of a union, or the one rule itself.
template <class R>
struct rule_tuple {
  using type = std::tuple<R>;
  [[nodiscard]] static constexpr type of(const R& r) { return type(r); }
};
template <class... Rules>
struct rule_tuple<keep<Rules...>> {
  using type = std::tuple<Rules...>;
  [[nodiscard]] static constexpr const type& of(const keep<Rules...>& k) noexcept { return k.rules; }
};

}  // namespace detail

KVKEEP_NAMESPACE_END

#endif
