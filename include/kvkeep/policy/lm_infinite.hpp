// lm_infinite: a Lambda-shaped mask and a ceiling on distances.
//
// Idea: read the first tokens and a window of the newest; inside the window distances are true, and the first tokens never
// seem further away than a limit that the model knows.
// Source: Han, Wang, Peng, Xiong, Chen, Ji, Wang, "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language
// Models", NAACL 2024, arXiv 2308.16137, section 4; code Glaciohound/LM-Infinite at a0ce64c. Without its optional middle
// top-k.
#ifndef KVKEEP_POLICY_LM_INFINITE_HPP
#define KVKEEP_POLICY_LM_INFINITE_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sinks.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Query i reads j with i - j < window at distance i - j, and the sinks beyond it at limit_distance. InfLLM's variant has
/// limit_distance = window - 1.
struct lm_infinite {
  std::size_t sinks = 100;                      ///< first tokens kept for ever (global_branch)
  std::size_t window = 2048;                    ///< newest tokens kept, the query included, >= 1 (local_branch)
  std::optional<std::size_t> limit_distance{};  ///< distance of sinks beyond the window; default: window

  static constexpr std::string_view name = "lm_infinite";
  static constexpr std::string_view idea =
      "keeps sinks and the newest tokens, sinks beyond the window at a constant distance";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<lm_infinite>{"sinks", &lm_infinite::sinks, 0, "first tokens kept for ever"},
        token_parameter<lm_infinite>{"window", &lm_infinite::window, 1, "newest tokens kept, the query included"},
        derived_token_parameter<lm_infinite>{"limit_distance", &lm_infinite::limit_distance, 0, "window",
                                             "distance of sinks beyond the window"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{kvkeep::sinks{sinks}, recent{window}}, read_all{},
                  beyond{window, limit_distance.value_or(window)}, each_token{}};
  }
};

static_assert(policy_like<lm_infinite>);

KVKEEP_NAMESPACE_END

#endif
