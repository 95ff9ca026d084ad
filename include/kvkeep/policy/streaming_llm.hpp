// streaming_llm: attention sinks and a sliding window, at their distances in the cache.
//
// Idea: models put the attention they do not need on the first tokens of a stream. Keep those few and a window of the
// newest, and count distances inside the cache instead of in the text: then a model runs on endless streams within its
// trained length.
// Source: Xiao, Tian, Chen, Han, Lewis, "Efficient Streaming Language Models with Attention Sinks", ICLR 2024,
// arXiv 2309.17453; code mit-han-lab/streaming-llm at 2e50426.
#ifndef KVKEEP_POLICY_STREAMING_LLM_HPP
#define KVKEEP_POLICY_STREAMING_LLM_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sinks.hpp"

KVKEEP_NAMESPACE_BEGIN

/// The exact form: every query reads the sinks and the newest `window` tokens, itself included, however the stream is cut
/// into steps. Equals the authors' code token by token: evict_then_append with recent = window, append_then_evict with
/// recent = window - 1.
struct streaming_llm {
  std::size_t sinks = 4;     ///< first tokens kept for ever
  std::size_t window = 512;  ///< newest tokens kept, the query included, >= 1

  static constexpr std::string_view name = "streaming_llm";
  static constexpr std::string_view idea =
      "keeps attention sinks and the newest tokens, at their distances in the cache";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<streaming_llm>{"sinks", &streaming_llm::sinks, 0, "first tokens kept for ever"},
        token_parameter<streaming_llm>{"window", &streaming_llm::window, 1, "newest tokens kept, the query included"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{kvkeep::sinks{sinks}, recent{window}}, read_all{}, cache_distance{}, each_token{}};
  }

  struct published;
  struct settled;
};

/// The authors' code, schedule and all: decisions once a step, dense attention inside a step, `start` counted in cache
/// entries. Results depend on how the stream is cut into steps.
struct streaming_llm::published {
  enum class orders : std::uint8_t {
    evict_then_append,  ///< the chat demo: before a step of n tokens, the window pays for them; one of more than `recent`
                        ///< tokens empties it and the cache grows beyond start + recent until the next step
    append_then_evict,  ///< the perplexity script: a step reads everything, then the cache is trimmed to start + recent
  };

  std::size_t start = 4;     ///< first cache entries kept for ever
  std::size_t recent = 512;  ///< newest tokens kept; start + recent >= 1
  orders order = orders::evict_then_append;

  /// When the authors' code acts, by its order.
  struct when {
    static constexpr bool chunk_invariant = false;
    orders order;
    [[nodiscard]] constexpr kvkeep::schedule schedule() const noexcept {
      using act = kvkeep::schedule::act;
      if (order == orders::append_then_evict) return {act::after_step};
      return {act::before_step, kvkeep::schedule::overflow::grow};
    }
  };

  static constexpr std::string_view name = "streaming_llm_published";
  static constexpr std::string_view idea = "streaming_llm as its authors' code runs it, once a step";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{token_parameter<published>{"start", &published::start, 0, "first cache entries kept for ever"},
                      token_parameter<published>{"recent", &published::recent, 0, "newest tokens kept"},
                      choice_parameter<published, orders, 2>{"order",
                                                             &published::order,
                                                             {{{"evict_then_append", orders::evict_then_append},
                                                               {"append_then_evict", orders::append_then_evict}}},
                                                             "when the authors' two scripts evict"}};
  }
  [[nodiscard]] result<void> check() const {
    if (auto ok = kvkeep::check_parameters(*this); !ok) return ok;
    if (start + recent >= 1) return {};
    return detail::bad_argument("start + recent", start + recent, ">= 1");
  }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{first_held{start}, kvkeep::recent{recent}}, read_all{}, cache_distance{}, when{order}};
  }
};

/// The InfLLM authors' variant: a sink that has left the window is at once as far away as in a full cache. Equals
/// streaming_llm from stream number sinks + window - 1 on. Source: thunlp/InfLLM at 12b7079, inf_llm/attention/stream_llm.py.
struct streaming_llm::settled {
  std::size_t sinks = 4;     ///< first tokens kept for ever (n_init)
  std::size_t window = 512;  ///< newest tokens kept, the query included, >= 1 (n_local)

  static constexpr std::string_view name = "streaming_llm_settled";
  static constexpr std::string_view idea = "streaming_llm with the distances of a full cache from the first token on";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<settled>{"sinks", &settled::sinks, 0, "first tokens kept for ever"},
        token_parameter<settled>{"window", &settled::window, 1, "newest tokens kept, the query included"}};
  }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{kvkeep::sinks{sinks}, recent{window}}, read_all{}, settled_cache_distance{sinks, window},
                  each_token{}};
  }
};

static_assert(policy_like<streaming_llm> && policy_like<streaming_llm::published> &&
              policy_like<streaming_llm::settled>);

KVKEEP_NAMESPACE_END

#endif
