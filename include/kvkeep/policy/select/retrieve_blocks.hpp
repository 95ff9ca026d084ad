// retrieve_blocks: of the memory units that lie behind the window, those that matter most to a query.
//
// Idea: what has left the window is filed in units of some tokens. A unit is represented by the keys of the few of its tokens
// that got most attention while they were in the window; a query looks up the units whose representatives it would attend to
// most, and reads those whole.
// Source: Xiao et al., "InfLLM", NeurIPS 2024, arXiv 2402.04617, section 3.2; code thunlp/InfLLM at 12b7079.
#ifndef KVKEEP_POLICY_SELECT_RETRIEVE_BLOCKS_HPP
#define KVKEEP_POLICY_SELECT_RETRIEVE_BLOCKS_HPP

#include <algorithm>
#include <concepts>

#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/sinks.hpp"
#include "kvkeep/policy/retain/unfiled.hpp"
#include "kvkeep/policy/select/chosen_by.hpp"
#include "kvkeep/policy/select/layer_range.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What makes a token represent its unit.
enum class representative_score : std::uint8_t {
  attention_mass,  ///< softmax weights summed over the queries that had it in their window, itself included (the authors' code)
  dot_product,  ///< scores summed over the queries that had it in their window, but its own (the paper)
};

/// Which tokens between window and units a query reads.
enum class pending_mask : std::uint8_t {
  exact,    ///< those that have left its window: every token is read at most once
  authors,  ///< those that will have left the window when its execution block ends, so that some are read twice
};

/// When units are looked up.
namespace lookup {

/// By the queries at multiples of `queries` in the stream, each alone; what it chose serves until the next. Chunk-invariant.
struct every {
  std::size_t queries = 1;  ///< >= 1
};

/// By the mean of the queries of an execution block: a step is cut into blocks of `size` from its begin. Units are filed
/// between blocks, and what a query reads depends on later queries of its block: not chunk-invariant. The authors' code.
struct execution_block {
  std::size_t size = 512;                      ///< queries, >= 1
  std::size_t frozen = 1;                      ///< blocks of a step that look among the same units, >= 1
  pending_mask pending = pending_mask::exact;  ///< of queries that are not the last of their block
};

}  // namespace lookup

/// Units, the first of a stream, whose vectors tell what others will be like: lookups that are not exact, and the short cuts of
/// those that are, begin behind them.
inline constexpr std::size_t learned_units = 256;

namespace detail {

/// An error where candidates are given, but are fewer than what is chosen of them, or where there can never be so many units
/// that choosing candidates among them would save anything.
[[nodiscard]] inline result<void> check_candidates(std::size_t candidates, std::size_t count, std::size_t units) {
  if (candidates == 0) return {};
  if (units <= learned_units || units <= count) {
    return bad_argument("candidates", candidates,
                        fmt::format("0 where max_tokens fill {} units; they act among more than {}", units,
                                    (std::max)(learned_units, count)));
  }
  if (candidates >= count && candidates < units) return {};
  return bad_argument("candidates", candidates,
                      fmt::format("0, or {} .. {}: units chosen .. units that max_tokens fill - 1", count, units - 1));
}

}  // namespace detail

/// Every query reads, besides what is not filed yet, `count` units: of those that are complete the best by the dot product of
/// the query, at the distance of what lies behind the window, with a unit's representative: the mean of the raw keys of its
/// `representatives` best tokens, chosen by each query head. Ties: the older unit, the older token. Where there are no more
/// than `count` units, all are read. Goes with keep{sinks, unfiled} and beyond, of the same sinks and window, and with each_token,
/// or with each_block of execution_block's size.
template <class Lookup = lookup::every>
struct retrieve_blocks {
  std::size_t count = 16;           ///< units, >= 1; published default 16
  std::size_t representatives = 4;  ///< tokens, >= 1; published default 4
  std::size_t max_tokens = 0;       ///< of the stream, >= 1; no default: memory is taken for all of them
  chosen_by chooses = chosen_by::layer;
  representative_score by = representative_score::attention_mass;
  Lookup looks_up{};
  layer_range layers{};  ///< that retrieve; the others read no units, and nothing is filed of them
  /// 0: lookups are exact. Else, where there are more units than these and learned_units, they are not: a coarse scan of all
  /// chooses so many, >= count, of which the best are taken. Faster where there are thousands of units (bench/README.md has
  /// recall and time).
  std::size_t candidates = 0;

  using lookup_type = Lookup;
  static constexpr bool has_units = true;
  template <class Retain>
  static constexpr bool goes_with = std::is_same_v<Retain, keep<sinks, unfiled>>;

  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("count", count, 1); !ok) return ok;
    if (auto ok = detail::check_tokens("representatives", representatives, 1); !ok) return ok;
    if (auto ok = detail::check_tokens("max_tokens", max_tokens, 1); !ok) return ok;
    if (candidates > 0) {
      if (auto ok = detail::check_tokens("candidates", candidates, count); !ok) return ok;
    }
    if constexpr (std::same_as<Lookup, lookup::every>) {
      return detail::check_tokens("looks_up.queries", looks_up.queries, 1);
    } else {
      if (auto ok = detail::check_tokens("looks_up.size", looks_up.size, 1); !ok) return ok;
      return detail::check_tokens("looks_up.frozen", looks_up.frozen, 1);
    }
  }
  /// An error where the rules beside it are of other sizes.
  template <class Rules>
  [[nodiscard]] static result<void> check_rules(const Rules& rules) {
    const auto same = [](std::string_view name, std::size_t value, std::string_view of, std::size_t wanted) {
      return value == wanted ? result<void>{} : detail::bad_argument(name, value, fmt::format("{} = {}", of, wanted));
    };
    const auto [first, rest] = detail::rule_tuple<keep<sinks, unfiled>>::of(rules.retain);
    const unit_geometry& g = rest.geometry;
    if (auto ok = same("sinks.count", first.count, "unfiled.geometry.sinks", g.sinks); !ok) return ok;
    if (auto ok = same("beyond.window", rules.distance.window, "unfiled.geometry.window", g.window); !ok) return ok;
    const retrieve_blocks& mine = rules.select;
    if (mine.representatives > g.unit) {
      return detail::bad_argument("representatives", mine.representatives,
                                  fmt::format("1 .. unfiled.geometry.unit = {}", g.unit));
    }
    if (auto ok = detail::check_candidates(mine.candidates, mine.count, g.complete(mine.max_tokens)); !ok) return ok;
    if constexpr (!std::same_as<Lookup, lookup::every>) {
      if (mine.looks_up.size > g.window) {
        return detail::bad_argument("looks_up.size", mine.looks_up.size,
                                    fmt::format("1 .. unfiled.geometry.window = {}", g.window));
      }
    }
    std::size_t together = 1;
    if constexpr (!std::same_as<Lookup, lookup::every>) together = rules.select.looks_up.size;
    const schedule acts = rules.when.schedule();
    if (acts.when != schedule::act::each_token) {
      return detail::make_error(
          errc::unsupported, "when",
          "retrieve_blocks goes with each_token or each_block, not with before_step or after_step");
    }
    return same("when.size", acts.together, "queries that look up together", together);
  }
};

KVKEEP_NAMESPACE_END

#endif
