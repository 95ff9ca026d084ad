// dense: every token stays and is read at its true distance: the upper bound of every comparison.
#ifndef KVKEEP_POLICY_DENSE_HPP
#define KVKEEP_POLICY_DENSE_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep_all.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Full causal attention over at most max_tokens tokens; a longer stream is an error.
struct dense {
  std::size_t max_tokens = 0;  ///< tokens, >= 1; no default: memory is taken for all of them

  static constexpr std::string_view name = "dense";
  static constexpr std::string_view idea = "keeps and reads every token at its true distance";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<dense>{"max_tokens", &dense::max_tokens, 1, "tokens that fit; a longer stream is an error"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep_all{max_tokens}, read_all{}, true_distance{}, each_token{}};
  }
};

static_assert(policy_like<dense>);

KVKEEP_NAMESPACE_END

#endif
