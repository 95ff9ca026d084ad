// nearest_keys: of all keys that have left the window, those that a query would attend to most.
//
// Source: Bertsch, Alon, Neubig, Gormley, "Unlimiformer: Long-Range Transformers with Unlimited Length Input", NeurIPS 2023, arXiv
// 2305.01625, section 3; code abertsch72/unlimiformer.
#ifndef KVKEEP_POLICY_SELECT_NEAREST_KEYS_HPP
#define KVKEEP_POLICY_SELECT_NEAREST_KEYS_HPP

#include "kvkeep/core/key_index.hpp"
#include "kvkeep/policy/select/chosen_by.hpp"
#include "kvkeep/policy/select/middle_top_k.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Every query reads, besides what retain leaves to it, the `count` keys with the largest score at distance `at` of all that were
/// dropped, and reads them at that distance; all of them where there are no more. With a `ceiling` it reads each of them at its
/// distance in the stream, but no farther than that: the search stays the one at `at`. Ties: the older. What a kv head chooses has the
/// largest sum of the scores of its query heads. A key's place decides its rotation, so that one search is exact for one distance alone: hence
/// the constant. Without rope, or where positions are not to matter, `at` = 0. Goes with keep{sinks, recent} and beyond of the same
/// window, and with each_token. Tokens are found as soon as they leave the window, those that the model made too. Memory is taken
/// for max_tokens tokens.
/// nearest_keys is exact; cost: every stored key of the layer once a query, whatever count is, on the thread that attends: an executor
/// shares out the attention alone. With a ceiling a query head is turned once for each key nearer than that, which takes about
/// 2 us for 128 components: of 1024 such keys 40 times what one distance for all takes. A query head that is not finite spoils what the others of its kv head choose together with it, and
/// no more. With an Index (core/key_index.hpp;
/// memory/hnsw_index.hpp is one) keys are looked for in it, one of each layer and kv head: those that it misses are not read, and
/// where it misses too many, fewer than count; those it finds, and those that left the window in the step itself, are ranked by the
/// scores of the stored keys. So what it misses may depend on how the stream is cut into steps. Keys are added when a step is
/// committed; what fails then is an error of the next begin, and clear() begins anew. An Index allocates as it likes.
template <class Index = exact_scan>
struct basic_nearest_keys {
  std::size_t count = 1024;                   ///< keys, 1 .. max_tokens; published: as many as the model's window holds
  std::size_t at = 0;                         ///< tokens: the distance at which keys are searched for and read
  std::size_t max_tokens = 0;                 ///< of the stream, >= 1; no default: memory is taken for all of them
  chosen_by chooses = chosen_by::query_head;  ///< or kv_head
  layer_range layers{};                       ///< that read them; nothing is kept for the others
  std::optional<std::size_t> ceiling{};  ///< tokens: keys are read at their distance, no farther; default: all at `at`
  typename Index::settings index{};      ///< of the index, if there is one

  static constexpr bool has_units = true;
  template <class Retain>
  static constexpr bool goes_with = std::is_same_v<Retain, keep<sinks, recent>>;
  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("max_tokens", max_tokens, 1); !ok) return ok;
    if (count < 1 || count > max_tokens) {
      return detail::bad_argument("count", count, fmt::format("1 .. max_tokens = {}", max_tokens));
    }
    const bool heads = chooses == chosen_by::query_head || chooses == chosen_by::kv_head;
    if (auto ok = detail::check_chooser(chooses, heads, "query_head or kv_head"); !ok) return ok;
    if (auto ok = detail::check_tokens("at", at, 0); !ok) return ok;
    if (ceiling) {
      if (auto ok = detail::check_tokens("ceiling", *ceiling, 0); !ok) return ok;
    }
    return index.check();
  }
  /// The largest distance at which it searches or reads.
  [[nodiscard]] constexpr std::size_t farthest() const noexcept {
    return (std::max)(at, (std::min)(ceiling.value_or(0), max_tokens - 1));
  }
  /// An error where the rules beside it are of other sizes.
  template <class Rules>
  [[nodiscard]] static result<void> check_rules(const Rules& rules) {
    return detail::check_beside_dropped_keys(rules, "nearest_keys");
  }
};

/// Of all keys that have left the window, those that a query would attend to most, exactly.
using nearest_keys = basic_nearest_keys<>;

KVKEEP_NAMESPACE_END

#endif
