// sir_llm: attention sinks, a window, and the tokens that surprised the model most, which fade from turn to turn.
//
// Idea: a token that the model did not expect carries information that the text around it does not. Keep those when the
// window has left them behind, and let old ones fade after every turn of a conversation.
// Source: Yao, Li, Zhao, "SirLLM: Streaming Infinite Retentive LLM", ACL 2024, arXiv 2405.12528; code Zoeyyao27/SirLLM at
// 4c95578.
#ifndef KVKEEP_POLICY_SIR_LLM_HPP
#define KVKEEP_POLICY_SIR_LLM_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sinks.hpp"
#include "kvkeep/policy/retain/top.hpp"

KVKEEP_NAMESPACE_BEGIN

/// The paper's definitions: every query reads the sinks, the newest `window` tokens, itself included, and of the others the
/// `count` that surprised most, at their distances in the cache. commit is told -ln P(token | before) of each token
/// (policy/evidence/surprisals.hpp makes them of logits).
/// By turns: reserve(n) makes room for a turn of n tokens, the least surprising leaving first and then the oldest of the
/// window; then its tokens come in steps of any size; then end_turn(). In a stream without turns: tokens come one by one,
/// and where the cache is full one leaves for each. A step of several tokens of which somebody would have to leave is an
/// error. Chunk-invariant, for the same reserve and end_turn between the same tokens.
struct sir_llm {
  std::size_t sinks = 4;      ///< first tokens kept for ever
  std::size_t window = 1000;  ///< newest tokens kept, the query included
  std::size_t count = 1000;   ///< tokens kept for their surprisal, >= 1
  double decay = 1.0;         ///< what end_turn() multiplies surprisals by, greater than 0, up to 1

  static constexpr std::string_view name = "sir_llm";
  static constexpr std::string_view idea =
      "keeps attention sinks, the newest tokens and those that surprised most, at their distances in the cache";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{token_parameter<sir_llm>{"sinks", &sir_llm::sinks, 0, "first tokens kept for ever"},
                      token_parameter<sir_llm>{"window", &sir_llm::window, 0, "newest tokens kept, the query included"},
                      token_parameter<sir_llm>{"count", &sir_llm::count, 1, "tokens kept for their surprisal"},
                      fraction_parameter<sir_llm>{"decay", &sir_llm::decay, "what a turn leaves of a surprisal"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{kvkeep::sinks{sinks}, recent{window}, top{surprisal{decay}, count}}, read_all{},
                  cache_distance{}, each_token{}};
  }

  struct published;
};

/// The authors' code: a step is a turn. Before it, `entropies` minus the step's tokens of the most surprising are chosen
/// among all that is held, sinks too; the first `start` stay in any case; the newest fill what is left, without a window of
/// their own. Then what is held fades, before the step's tokens come with their values: end_turn() has nothing to do. A step
/// larger than recent + entropies is an error, but for the first, which may fill the cache.
/// Its values are those of published_surprisals: the authors' are off by one token.
struct sir_llm::published {
  std::size_t start = 4;         ///< first cache entries kept for ever
  std::size_t recent = 1000;     ///< what the newest tokens may fill besides
  std::size_t entropies = 1000;  ///< most surprising tokens kept, less those that come
  double decay = 1.0;            ///< what a step multiplies the values of all that is held by, greater than 0, up to 1

  /// The most surprising of all that is held.
  struct scored : top<surprisal> {
    static constexpr bool pays_first = true;
    [[nodiscard]] column end_turn(const column& value) const noexcept { return value; }
    [[nodiscard]] column end_step(const column& value) const noexcept { return value.times(by.decay); }
  };
  /// The newest, as far as there is room; never the first cache entry.
  struct filler {
    std::size_t count;
    static constexpr bool fills = true;
    [[nodiscard]] constexpr std::size_t share() const noexcept { return count; }
    [[nodiscard]] constexpr bool claims(const held_token& t) const noexcept { return t.index > 0; }
  };

  static constexpr std::string_view name = "sir_llm_published";
  static constexpr std::string_view idea = "the authors' code of sir_llm: decides once a step, fills with the newest";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<published>{"start", &published::start, 0, "first cache entries kept for ever"},
        token_parameter<published>{"recent", &published::recent, 0, "what the newest tokens may fill besides"},
        token_parameter<published>{"entropies", &published::entropies, 1, "most surprising tokens kept"},
        fraction_parameter<published>{"decay", &published::decay, "what a step leaves of a surprisal"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{scored{{{decay}, entropies}}, first_held{start}, filler{recent}}, read_all{}, cache_distance{},
                  before_step{}};
  }
};

static_assert(policy_like<sir_llm> && policy_like<sir_llm::published>);

KVKEEP_NAMESPACE_END

#endif
