// unit_rules: what a policy asks of a memory of units.
#ifndef KVKEEP_MEMORY_UNIT_RULES_HPP
#define KVKEEP_MEMORY_UNIT_RULES_HPP

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <type_traits>

#include "kvkeep/core/types.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/unfiled.hpp"
#include "kvkeep/policy/select/retrieve_blocks.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What a policy's rules ask of a memory of units.
struct unit_memory_rules {
  unit_geometry geometry{};
  std::size_t count = 0;            ///< units that a query reads, no more than there can be
  std::size_t representatives = 0;  ///< tokens
  std::size_t max_tokens = 0;       ///< of the stream
  chosen_by chooses = chosen_by::layer;
  representative_score by = representative_score::attention_mass;
  std::size_t every = 1;      ///< queries from one lookup to the next, where they look up alone
  std::size_t execution = 0;  ///< queries of an execution block; 0: they look up alone
  std::size_t frozen = 1;     ///< execution blocks that look among the same units
  pending_mask pending = pending_mask::exact;
  position distance = 0;       ///< of everything that is retrieved
  layer_range layers{};        ///< that retrieve
  std::size_t candidates = 0;  ///< of a lookup that is not exact

  /// Units that a stream can fill.
  [[nodiscard]] std::size_t units() const noexcept { return geometry.complete(max_tokens); }
  /// Who chooses in a layer.
  [[nodiscard]] std::size_t choosers(const model_shape& shape) const noexcept {
    return chooses == chosen_by::layer ? 1 : chooses == chosen_by::kv_head ? shape.kv_heads : shape.query_heads;
  }
  /// Blocks of 16 tokens of a unit.
  [[nodiscard]] std::size_t unit_blocks() const noexcept { return (geometry.unit + block_tokens - 1) / block_tokens; }
  /// Blocks of 16 rows of a unit's record: one kv head after the other, so that those of small units share blocks.
  [[nodiscard]] std::size_t record_blocks(std::size_t kv_heads) const noexcept {
    return (kv_heads * geometry.unit + block_tokens - 1) / block_tokens;
  }
  /// The row of a record that a token of a unit has.
  [[nodiscard]] std::size_t record_row(std::size_t kv_head, std::size_t token) const noexcept {
    return kv_head * geometry.unit + token;
  }
};

namespace detail {

/// The rules of a policy that retrieves units.
template <class Rules>
[[nodiscard]] unit_memory_rules unit_rules_of(const Rules& rules) {
  unit_memory_rules out;
  std::apply(
      [&](const auto&... rule) {
        const auto take = [&](const auto& each) {
          if constexpr (requires { each.geometry.window; }) out.geometry = each.geometry;
        };
        (take(rule), ...);
      },
      rule_tuple<std::remove_cvref_t<decltype(rules.retain)>>::of(rules.retain));
  out.representatives = rules.select.representatives;
  out.max_tokens = rules.select.max_tokens;
  out.count = (std::min)(rules.select.count, (std::max)(out.units(), std::size_t{1}));
  out.chooses = rules.select.chooses;
  out.by = rules.select.by;
  if constexpr (requires { rules.select.looks_up.queries; }) {
    out.every = rules.select.looks_up.queries;
  } else {
    out.execution = rules.select.looks_up.size;
    out.frozen = rules.select.looks_up.frozen;
    out.pending = rules.select.looks_up.pending;
  }
  out.distance = static_cast<position>(rules.distance.at);
  out.layers = rules.select.layers;
  out.candidates = rules.select.candidates;
  return out;
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
