// unlimiformer: a window, and of everything before it the keys that each head would attend to most.
//
// Idea: attention gives nearly all its weight to few keys, so that a query which searches all of them for those few needs no
// longer window than the model was trained with.
// Source: Bertsch, Alon, Neubig, Gormley, "Unlimiformer: Long-Range Transformers with Unlimited Length Input", NeurIPS 2023, arXiv
// 2305.01625, section 3; code abertsch72/unlimiformer. Its form for decoders alone puts retrieved keys at a fraction of their true
// positions and searches with a query that gives other scores than attention does; here keys are searched for, and read, at
// one distance, and what the model generates is found as well.
#ifndef KVKEEP_POLICY_UNLIMIFORMER_HPP
#define KVKEEP_POLICY_UNLIMIFORMER_HPP

#include <algorithm>

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sinks.hpp"
#include "kvkeep/policy/select/nearest_keys.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Query i reads j with i - j < window at distance i - j, the sinks beyond at distance `at`, and so the `count` keys of the rest
/// with the largest scores at distance `at`. With a `ceiling` those are read at their distances; sinks stay at `at`. window + count should be about what the model was trained for. All tokens are kept.
struct unlimiformer {
  std::size_t sinks = 0;               ///< first tokens, always read; published: none
  std::size_t window = 1024;           ///< newest tokens, the query included, >= 1
  std::optional<std::size_t> count{};  ///< keys of the rest, 1 .. max_tokens; default: window, or max_tokens if less
  std::optional<std::size_t> at{};     ///< their distance; default: window
  std::optional<std::size_t>
      ceiling{};                ///< they are read at their distance in the stream, no farther; default: all at `at`
  std::size_t first_layer = 0;  ///< layers below read none; published: 0, for Llama 2 7B 16 (layer_begin: half of them)
  std::size_t last_layer = 1000;              ///< nor do layers from here on
  chosen_by chooses = chosen_by::query_head;  ///< or kv_head
  std::size_t max_tokens = 0;                 ///< of the stream, >= 1; no default: memory is taken for all of them

  static constexpr std::string_view name = "unlimiformer";
  static constexpr std::string_view idea =
      "keeps everything; a head reads a window, and of the rest the keys that it would attend to most";
  static constexpr std::array<std::pair<std::string_view, chosen_by>, 2> chooses_names{
      {{"query_head", chosen_by::query_head}, {"kv_head", chosen_by::kv_head}}};
  [[nodiscard]] static constexpr auto parameters() {
    using self = unlimiformer;
    return std::tuple{
        token_parameter<self>{"sinks", &self::sinks, 0, "first tokens, always read"},
        token_parameter<self>{"window", &self::window, 1, "newest tokens, the query included"},
        derived_token_parameter<self>{"count", &self::count, 1, "window", "keys of the rest that a head reads"},
        derived_token_parameter<self>{"at", &self::at, 0, "window", "their distance"},
        derived_token_parameter<self>{
            "ceiling", &self::ceiling, 0, "none",
            "their distance in the stream, no farther than this; `at` is where they are searched for"},
        token_parameter<self>{"first_layer", &self::first_layer, 0, "layers below read none"},
        token_parameter<self>{"last_layer", &self::last_layer, 1, "nor do layers from here on"},
        choice_parameter<self, chosen_by, 2>{"chooses", &self::chooses, chooses_names, "who chooses them"},
        token_parameter<self>{"max_tokens", &self::max_tokens, 1, "tokens that fit; a longer stream is an error"}};
  }
  [[nodiscard]] constexpr auto rules() const {
    const std::size_t distance = at.value_or(window);
    return policy{keep{kvkeep::sinks{sinks}, recent{window}},
                  nearest_keys{count.value_or((std::min)(window, max_tokens)),
                               distance,
                               max_tokens,
                               chooses,
                               {first_layer, last_layer},
                               ceiling},
                  beyond{window, distance}, each_token{}};
  }
  [[nodiscard]] result<void> check() const {
    if (auto ok = kvkeep::check_parameters(*this); !ok) return ok;
    if (auto ok = rules().select.check(); !ok) return ok;
    if (last_layer > first_layer) return {};
    return detail::bad_argument("last_layer", last_layer, fmt::format("above first_layer = {}", first_layer));
  }
};

static_assert(policy_like<unlimiformer>);

KVKEEP_NAMESPACE_END

#endif
