// sliding_window: the newest `window` tokens, at their true distances.
//
// What Mistral-like models are trained with; a model that was not loses its attention sinks and breaks when the window
// leaves the start of the stream (Xiao et al. 2024, arXiv 2309.17453, figure 1b).
#ifndef KVKEEP_POLICY_SLIDING_WINDOW_HPP
#define KVKEEP_POLICY_SLIDING_WINDOW_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/recent.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Query i reads the keys i - window < j <= i.
struct sliding_window {
  std::size_t window = 4096;  ///< tokens, the query included, >= 1; default: Mistral-7B (arXiv 2310.06825)

  static constexpr std::string_view name = "sliding_window";
  static constexpr std::string_view idea = "keeps the newest tokens, at their true distances";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{token_parameter<sliding_window>{"window", &sliding_window::window, 1,
                                                      "newest tokens kept, the query included"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{recent{window}, read_all{}, true_distance{}, each_token{}};
  }
};

static_assert(policy_like<sliding_window>);

KVKEEP_NAMESPACE_END

#endif
