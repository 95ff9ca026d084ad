// key_source: how a rule that must look at keys reads them, without knowing how they are stored.
#ifndef KVKEEP_CORE_KEY_SOURCE_HPP
#define KVKEEP_CORE_KEY_SOURCE_HPP

#include <concepts>
#include <cstddef>
#include <span>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// The stored keys and values of one layer and kv head.
/// * `head_dim()`: floats per row.
/// * `scores(query, first, out)`: the dot products of query [head_dim] with the keys in slots
///   first .. first + out.size() - 1, unscaled, keys as stored (rotated or raw); slots that hold no token give any value.
/// * `copy_key(s, row)`, `copy_value(s, row)`: one decoded row, [head_dim].
/// None of them allocates; all are safe to call from several threads while nothing writes.
template <class Source>
concept key_source = requires(const Source source, std::span<const float> query, slot s, std::span<float> out) {
  { source.head_dim() } -> std::convertible_to<std::size_t>;
  { source.scores(query, s, out) } -> std::same_as<void>;
  { source.copy_key(s, out) } -> std::same_as<void>;
  { source.copy_value(s, out) } -> std::same_as<void>;
};

KVKEEP_NAMESPACE_END

#endif
