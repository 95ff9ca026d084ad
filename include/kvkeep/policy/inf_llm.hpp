// inf_llm: sinks, a window, and a memory of units of which every query reads the few that matter to it.
//
// Source: Xiao, Zhang, Han, Xiao, Lin, Zhang, Liu, Sun, "InfLLM: Training-Free Long-Context Extrapolation for LLMs with an
// Efficient Context Memory", NeurIPS 2024, arXiv 2402.04617; code thunlp/InfLLM at 12b7079.
#ifndef KVKEEP_POLICY_INF_LLM_HPP
#define KVKEEP_POLICY_INF_LLM_HPP

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/sinks.hpp"
#include "kvkeep/policy/retain/unfiled.hpp"
#include "kvkeep/policy/select/retrieve_blocks.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Query i reads the sinks, the `window` newest tokens, itself included, at their distances, what has left the window and
/// fills no unit yet, and `count` units; everything behind the window at distance window - 1. Chunk-invariant, up to rounding
/// of what decides representatives.
struct inf_llm {
  std::size_t sinks = 128;          ///< first tokens, always read (n_init)
  std::size_t window = 4096;        ///< newest tokens, the query included, >= 1 (n_local; 2048 for Vicuna and MiniCPM)
  std::size_t block_size = 128;     ///< tokens of a unit, >= 1
  std::size_t count = 16;           ///< units that a query reads, >= 1 (topk; 96 and 32 in the paper's tables)
  std::size_t representatives = 4;  ///< tokens that represent a unit, 1 .. block_size (repr_topk)
  std::size_t every = 1;            ///< a lookup at stream positions that are multiples of this, >= 1
  std::size_t max_tokens = 0;       ///< of the stream, >= 1; no default: memory is taken for all of them
  chosen_by chooses = chosen_by::layer;  ///< who chooses units
  std::size_t first_layer = 0;           ///< layers below read no units, and nothing of them is filed
  std::size_t last_layer = 65536;        ///< nor do layers from here on
  representative_score by = representative_score::attention_mass;  ///< what makes a token a representative
  std::size_t candidates =
      0;  ///< 0: lookups are exact; else of so many units, count .. those a stream can fill - 1, which a scan that
          ///< is not exact finds among more than learned_units

  // The defaults are the authors' configuration of Mistral-7B-Instruct-v0.2, Llama-3-8B-Instruct and Qwen1.5-7B. Others:

  /// That of Vicuna-7B-v1.5 and of MiniCPM-2B.
  [[nodiscard]] static constexpr inf_llm short_window(std::size_t max_tokens) {
    return {.window = 2048, .max_tokens = max_tokens};
  }
  /// That of the paper's tables on infinity-Bench, where a query reads 96 units with Mistral-7B, 32 with Llama-3-8B.
  [[nodiscard]] static constexpr inf_llm paper(std::size_t units, std::size_t max_tokens) {
    return {.count = units, .max_tokens = max_tokens};
  }

  static constexpr std::string_view name = "inf_llm";
  static constexpr std::string_view idea =
      "keeps sinks and the newest tokens and files the rest in units, of which a query reads those that matter to it";
  static constexpr std::array<std::pair<std::string_view, chosen_by>, 3> choosers{
      {{"layer", chosen_by::layer}, {"kv_head", chosen_by::kv_head}, {"query_head", chosen_by::query_head}}};
  static constexpr std::array<std::pair<std::string_view, representative_score>, 2> scores{
      {{"attention_mass", representative_score::attention_mass}, {"dot_product", representative_score::dot_product}}};
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<inf_llm>{"sinks", &inf_llm::sinks, 0, "first tokens, always read"},
        token_parameter<inf_llm>{"window", &inf_llm::window, 1, "newest tokens, the query included"},
        token_parameter<inf_llm>{"block_size", &inf_llm::block_size, 1, "tokens of a unit"},
        token_parameter<inf_llm>{"count", &inf_llm::count, 1, "units that a query reads"},
        token_parameter<inf_llm>{"representatives", &inf_llm::representatives, 1, "tokens that represent a unit"},
        token_parameter<inf_llm>{"every", &inf_llm::every, 1, "tokens from one lookup to the next"},
        token_parameter<inf_llm>{"max_tokens", &inf_llm::max_tokens, 1, "tokens that fit; a longer stream is an error"},
        choice_parameter<inf_llm, chosen_by, 3>{"chooses", &inf_llm::chooses, choosers, "who chooses units"},
        token_parameter<inf_llm>{"first_layer", &inf_llm::first_layer, 0, "layers below read no units"},
        token_parameter<inf_llm>{"last_layer", &inf_llm::last_layer, 1, "nor do layers from here on"},
        choice_parameter<inf_llm, representative_score, 2>{"by", &inf_llm::by, scores,
                                                           "what makes a token a representative"},
        token_parameter<inf_llm>{"candidates", &inf_llm::candidates, 0,
                                 "units that a lookup looks at; 0: at all, so that it is exact"}};
  }
  [[nodiscard]] result<void> check() const {
    if (auto ok = kvkeep::check_parameters(*this); !ok) return ok;
    if (representatives > block_size) {
      return detail::bad_argument("representatives", representatives, fmt::format("1 .. block_size = {}", block_size));
    }
    return detail::check_candidates(candidates, count, unit_geometry{sinks, window, block_size}.complete(max_tokens));
  }
  [[nodiscard]] constexpr auto rules() const {
    return policy{keep{kvkeep::sinks{sinks}, unfiled{{sinks, window, block_size}}},
                  retrieve_blocks<>{
                      count, representatives, max_tokens, chooses, by, {every}, {first_layer, last_layer}, candidates},
                  beyond{window, window - 1}, each_token{}};
  }

  struct published;
};

/// The authors' code: a step is cut into execution blocks from its begin, whose mean query looks units up and which read the
/// units that were complete before they began. With pending_mask::authors also its double counting, in blocks of several
/// tokens, of what leaves the window while the block is processed. Not chunk-invariant.
struct inf_llm::published {
  std::size_t n_init = 128;
  std::size_t n_local = 4096;
  std::size_t block_size = 128;
  std::size_t topk = 16;
  std::size_t repr_topk = 4;
  std::size_t exc_block_size = 512;  ///< 1 .. n_local
  std::size_t chunk_topk_blocks =
      1;  ///< execution blocks of a step that look among the same units (chunk_topk_calc / exc)
  std::size_t max_tokens = 0;
  chosen_by chooses = chosen_by::layer;  ///< query_head is the authors' perhead
  std::size_t first_layer = 0;
  std::size_t last_layer = 65536;
  pending_mask pending = pending_mask::authors;
  std::size_t candidates = 0;  ///< as inf_llm's; no part of the authors' code

  static constexpr std::string_view name = "inf_llm_published";
  static constexpr std::string_view idea = "the authors' code of inf_llm: looks up once an execution block";
  static constexpr std::array<std::pair<std::string_view, pending_mask>, 2> masks{
      {{"authors", pending_mask::authors}, {"exact", pending_mask::exact}}};
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<published>{"n_init", &published::n_init, 0, "first tokens, always read"},
        token_parameter<published>{"n_local", &published::n_local, 1, "newest tokens, the query included"},
        token_parameter<published>{"block_size", &published::block_size, 1, "tokens of a unit"},
        token_parameter<published>{"topk", &published::topk, 1, "units that a query reads"},
        token_parameter<published>{"repr_topk", &published::repr_topk, 1, "tokens that represent a unit"},
        token_parameter<published>{"exc_block_size", &published::exc_block_size, 1, "tokens of an execution block"},
        token_parameter<published>{"chunk_topk_blocks", &published::chunk_topk_blocks, 1,
                                   "execution blocks of a step that look among the same units"},
        token_parameter<published>{"max_tokens", &published::max_tokens, 1,
                                   "tokens that fit; a longer stream is an error"},
        choice_parameter<published, chosen_by, 3>{"chooses", &published::chooses, inf_llm::choosers,
                                                  "who chooses units"},
        token_parameter<published>{"first_layer", &published::first_layer, 0, "layers below read no units"},
        token_parameter<published>{"last_layer", &published::last_layer, 1, "nor do layers from here on"},
        choice_parameter<published, pending_mask, 2>{"pending", &published::pending, masks,
                                                     "whether tokens that leave the window are counted once"},
        token_parameter<published>{"candidates", &published::candidates, 0,
                                   "units that a lookup looks at; 0: at all, so that it is exact"}};
  }
  [[nodiscard]] result<void> check() const {
    if (auto ok = kvkeep::check_parameters(*this); !ok) return ok;
    if (repr_topk > block_size) {
      return detail::bad_argument("repr_topk", repr_topk, fmt::format("1 .. block_size = {}", block_size));
    }
    if (exc_block_size > n_local) {
      return detail::bad_argument("exc_block_size", exc_block_size, fmt::format("1 .. n_local = {}", n_local));
    }
    return detail::check_candidates(candidates, topk, unit_geometry{n_init, n_local, block_size}.complete(max_tokens));
  }
  [[nodiscard]] constexpr auto rules() const {
    using select = retrieve_blocks<lookup::execution_block>;
    return policy{keep{kvkeep::sinks{n_init}, unfiled{{n_init, n_local, block_size}}},
                  select{topk,
                         repr_topk,
                         max_tokens,
                         chooses,
                         representative_score::attention_mass,
                         {exc_block_size, chunk_topk_blocks, pending},
                         {first_layer, last_layer},
                         candidates},
                  beyond{n_local, n_local - 1}, each_block{exc_block_size}};
  }
};

static_assert(policy_like<inf_llm> && policy_like<inf_llm::published>);

KVKEEP_NAMESPACE_END

#endif
