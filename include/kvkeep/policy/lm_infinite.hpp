// lm_infinite: a Lambda-shaped mask and a ceiling on distances.
//
// Idea: read the first tokens and a window of the newest; inside the window distances are true, and the first tokens never
// seem further away than a limit that the model knows.
// Source: Han, Wang, Peng, Xiong, Chen, Ji, Wang, "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language
// Models", NAACL 2024, arXiv 2308.16137, section 4; code Glaciohound/LM-Infinite at a0ce64c.
#ifndef KVKEEP_POLICY_LM_INFINITE_HPP
#define KVKEEP_POLICY_LM_INFINITE_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sinks.hpp"
#include "kvkeep/policy/select/middle_top_k.hpp"

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

  struct middle;
};

/// The same, and each query head reads the keys between that it would attend to most. All tokens are kept for that.
struct lm_infinite::middle {
  std::size_t sinks = 10;     ///< first tokens, always read; published 10 for pass keys, 100 otherwise
  std::size_t window = 4096;  ///< newest tokens, the query included, >= 1
  std::optional<std::size_t> limit_distance{};  ///< distance of sinks beyond the window; default: window
  std::size_t count = 5;                        ///< keys between that a query head reads, >= 1 (top_k)
  std::size_t at = 2048;                        ///< their distance (top_k_insert_at)
  std::size_t first_layer = 4;                  ///< layers below read none (top_k_from_layer)
  std::size_t last_layer = 1000;                ///< nor do layers from here on (top_k_to_layer)
  step_rows rows = step_rows::every;            ///< last: only the last query of a step, as in the authors' code
  std::size_t max_tokens = 0;                   ///< of the stream, >= 1; no default: memory is taken for all of them

  static constexpr std::string_view name = "lm_infinite_middle";
  static constexpr std::string_view idea =
      "as lm_infinite, and each query head reads the keys between that it would attend to most";
  static constexpr std::array<std::pair<std::string_view, step_rows>, 2> rows_names{
      {{"every", step_rows::every}, {"last", step_rows::last}}};
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<middle>{"sinks", &middle::sinks, 0, "first tokens, always read"},
        token_parameter<middle>{"window", &middle::window, 1, "newest tokens, the query included"},
        derived_token_parameter<middle>{"limit_distance", &middle::limit_distance, 0, "window",
                                        "distance of sinks beyond the window"},
        token_parameter<middle>{"count", &middle::count, 1, "keys between that a query head reads"},
        token_parameter<middle>{"at", &middle::at, 0, "their distance"},
        token_parameter<middle>{"first_layer", &middle::first_layer, 0, "layers below read none"},
        token_parameter<middle>{"last_layer", &middle::last_layer, 1, "nor do layers from here on"},
        choice_parameter<middle, step_rows, 2>{"rows", &middle::rows, rows_names, "which queries of a step read them"},
        token_parameter<middle>{"max_tokens", &middle::max_tokens, 1, "tokens that fit; a longer stream is an error"}};
  }
  [[nodiscard]] result<void> check() const {
    if (auto ok = kvkeep::check_parameters(*this); !ok) return ok;
    if (last_layer > first_layer) return {};
    return detail::bad_argument("last_layer", last_layer, fmt::format("above first_layer = {}", first_layer));
  }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{kvkeep::sinks{sinks}, recent{window}},
                  middle_top_k{count, at, {first_layer, last_layer}, max_tokens, rows},
                  beyond{window, limit_distance.value_or(window)}, each_token{}};
  }
};

static_assert(policy_like<lm_infinite> && policy_like<lm_infinite::middle>);

KVKEEP_NAMESPACE_END

#endif
