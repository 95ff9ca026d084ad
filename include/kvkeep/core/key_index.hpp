// key_index: what finds the keys that a query would attend to most without looking at all of them, perhaps not all of those.
#ifndef KVKEEP_CORE_KEY_INDEX_HPP
#define KVKEEP_CORE_KEY_INDEX_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/core/result.hpp"

KVKEEP_NAMESPACE_BEGIN

/// An index of the keys of one layer and kv head, for rules such as basic_nearest_keys. Index is movable, and made of
/// Index::settings, a copyable value whose defaults are the ones to take, and which is checked before all else:
/// * `settings.check()`: an error where a setting is out of its range.
/// * `Index::bytes(settings, dimension, most)`: the bytes that an index takes for `most` keys of `dimension` floats.
/// * `Index::try_make(settings, dimension, most)`: an empty index; an error where there is no memory.
/// * `try_add(number, key)`: adds a key [dimension]; the caller's number for it was never added since the index was made or
///   cleared, and is below 2^32 - 1. After an error nothing more is asked of the index but try_clear.
/// * `try_remove(number)`: the key, which is there, is not found any more. Errors as try_add.
/// * `try_search(query, k, found)`: writes the numbers of the k keys with the largest dot products with the query [dimension]
///   into `found`, whose length is at least k, in any order, and returns how many they are. Some may be others than those, or
///   missing; none is there twice, and none that is not in the index. Keys whose dot product is not a number come last.
/// * `try_clear()`: makes it what it was when it was made.
/// The same calls give the same results. Searches need not be thread-safe: one thread at a time asks an index.
template <class Index>
concept key_index = std::movable<Index> && std::copyable<typename Index::settings> &&
    requires(Index index, const typename Index::settings settings, std::size_t count, std::uint32_t number,
             std::span<const float> row, std::span<std::uint32_t> found) {
  { settings.check() } -> std::same_as<result<void>>;
  { Index::bytes(settings, count, count) } -> std::same_as<std::size_t>;
  { Index::try_make(settings, count, count) } -> std::same_as<result<Index>>;
  { index.try_add(number, row) } -> std::same_as<result<void>>;
  { index.try_remove(number) } -> std::same_as<result<void>>;
  { index.try_search(row, count, found) } -> std::same_as<result<std::size_t>>;
  { index.try_clear() } -> std::same_as<result<void>>;
};

/// In place of an index: none, so that every key is looked at.
struct exact_scan {
  struct settings {
    [[nodiscard]] static result<void> check() { return {}; }
  };
};

KVKEEP_NAMESPACE_END

#endif
