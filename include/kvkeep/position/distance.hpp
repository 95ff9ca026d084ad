// Distance rules: how far away a key seems to the query that reads it.
//
// A rule maps what is known of a query and a key (key_place) to a distance in tokens. The library turns it into exact
// attention: a key is encoded once, at an anchor (its stream position, or 0 for "raw"), and the query is turned to
// anchor + distance. `storage` says which keys a rule wants raw so that many of them share one turned query.
//
// Write your own: a copyable type with
//   position operator()(const key_place&) const;                      // below 2^53; negative: the key seems newer
//   key_storage storage(const retention&) const;                      // optional; default: all rotated
//   std::optional<position> largest(const retention&) const;          // optional; default unknown
//   static constexpr bool counts_newer = true;                        // only if it reads key_place::newer
//   result<void> check() const;                                       // optional: parameters out of range
#ifndef KVKEEP_POSITION_DISTANCE_HPP
#define KVKEEP_POSITION_DISTANCE_HPP

#include <algorithm>
#include <concepts>
#include <optional>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What a distance rule may look at.
struct key_place {
  position query = 0;   ///< stream position of the query
  position key = 0;     ///< stream position of the key, <= query
  position newer = 0;   ///< newer keys that this query reads, its own included (0 for its own); only if counts_newer
  position number = 0;  ///< the key's place in the stream counted from its first token: key - first_position
  key_label label = key_label::window;  ///< what the select rule calls it

  [[nodiscard]] constexpr position age() const noexcept { return query - key; }
};

/// What a retain rule promises, for rules that depend on it.
struct retention {
  std::size_t capacity = 0;  ///< tokens held after a step, at most
  std::size_t in_step = 0;   ///< tokens held and coming within a step, at most
  std::size_t read = 0;      ///< tokens that one query reads, at most
  std::optional<position>
      oldest{};  ///< largest age of a key that a query reads, while nothing is erased; empty: unbounded
  std::size_t unbounded_first = 0;  ///< the first so many tokens of a stream may be read at any age
  std::optional<position> rest{};   ///< largest age of all others, while nothing is erased; empty: unbounded
  bool few_runs = false;            ///< what is kept is a few ranges of consecutive tokens
};

/// How the keys of a cache are stored, for its whole life.
struct key_storage {
  position raw_below =
      0;  ///< keys with a stream number below are encoded as they come; queries turn to the distance itself
  bool scattered = false;  ///< all keys are raw, and each may have its own distance: keys are turned as they are read
  position raw_from_age =
      0;  ///< > 0: every key is stored in both forms, and queries read those of this age or more raw, the others turned

  /// Whether every key is turned to its stream position, then encoded, and nothing else.
  [[nodiscard]] constexpr bool all_rotated() const noexcept { return raw_below == 0 && !scattered && !both(); }
  /// Whether every key is stored twice.
  [[nodiscard]] constexpr bool both() const noexcept { return raw_from_age > 0; }
};

namespace detail {

/// An error where a parameter is no number of tokens, or below `least`.
[[nodiscard]] inline result<void> check_tokens(std::string_view name, std::size_t value, std::size_t least) {
  constexpr std::size_t most = 2147483647;
  if (value >= least && value <= most) return {};
  return bad_argument(name, value, fmt::format("{} .. {}", least, most));
}

}  // namespace detail

/// Stream distance: query - key, gaps and all. (Dense, sliding window, and what most engines do.)
struct true_distance {
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept { return k.age(); }
  [[nodiscard]] constexpr std::optional<position> largest(const retention& r) const noexcept { return r.oldest; }
};

/// Distance in the cache: how many newer keys this query reads. (StreamingLLM, arXiv 2309.17453 section 3.2.)
struct cache_distance {
  static constexpr bool counts_newer = true;
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept { return k.newer; }
  [[nodiscard]] constexpr key_storage storage(const retention& r) const noexcept { return {0, !r.few_runs}; }
  [[nodiscard]] constexpr std::optional<position> largest(const retention& r) const noexcept {
    return static_cast<position>(r.read) - 1;
  }
};

/// The distance in a cache that is full from the first token on: true inside the window, and window + sinks - 1 - j for
/// sink j behind it. Any other key keeps its true distance. (StreamingLLM in the InfLLM authors' repository.)
struct settled_cache_distance {
  std::size_t sinks = 4;
  std::size_t window = 512;  ///< tokens, the query included

  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept {
    if (k.age() < static_cast<position>(window) || k.number >= static_cast<position>(sinks)) return k.age();
    return static_cast<position>(window + sinks) - 1 - k.number;
  }
  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("settled_cache_distance.sinks", sinks, 0); !ok) return ok;
    return detail::check_tokens("settled_cache_distance.window", window, 1);
  }
  [[nodiscard]] constexpr std::optional<position> largest(const retention& r) const noexcept {
    if (!r.rest || r.unbounded_first > sinks) return r.oldest;
    return (std::max)(*r.rest, static_cast<position>(window + sinks));
  }
};

/// True inside the window, the constant `at` for all keys that are older. (LM-Infinite, arXiv 2308.16137 section 4: sinks
/// at the limit distance; InfLLM: everything behind the window at window - 1.)
struct beyond {
  std::size_t window = 2048;  ///< tokens, the query included, >= 1
  std::size_t at = 2048;      ///< distance of every key whose age is >= window

  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept {
    return k.age() < static_cast<position>(window) ? k.age() : static_cast<position>(at);
  }
  /// Keys behind the window share one turned query if they are raw. Those that pass from one into the other are stored in
  /// both forms, each encoded once.
  [[nodiscard]] constexpr key_storage storage(const retention& r) const noexcept {
    if (r.oldest && *r.oldest < static_cast<position>(window)) return {};
    if (!r.rest || *r.rest >= static_cast<position>(window)) return {.raw_from_age = static_cast<position>(window)};
    return {static_cast<position>(r.unbounded_first), false};
  }
  [[nodiscard]] constexpr std::optional<position> largest(const retention&) const noexcept {
    return static_cast<position>((std::max)(window, at));
  }
  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("beyond.window", window, 1); !ok) return ok;
    return detail::check_tokens("beyond.at", at, 0);
  }
};

/// True up to `limit`, and `limit` for everything older.
struct clamped_distance {
  std::size_t limit = 2048;

  [[nodiscard]] result<void> check() const { return detail::check_tokens("clamped_distance.limit", limit, 0); }
  [[nodiscard]] constexpr beyond as_beyond() const noexcept { return {(std::max)(limit, std::size_t{1}), limit}; }
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept {
    return (std::min)(k.age(), static_cast<position>(limit));
  }
  [[nodiscard]] constexpr key_storage storage(const retention& r) const noexcept { return as_beyond().storage(r); }
  [[nodiscard]] constexpr std::optional<position> largest(const retention&) const noexcept {
    return static_cast<position>(limit);
  }
};

/// The constant `at` for keys that the select rule labels retrieved, another rule for the rest.
template <class Rest = true_distance>
struct retrieved_at {
  std::size_t at = 0;
  Rest rest{};

  static constexpr bool counts_newer = requires { requires Rest::counts_newer; };
  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("retrieved_at.at", at, 0); !ok) return ok;
    if constexpr (requires {
                    { rest.check() } -> std::same_as<result<void>>;
                  })
      return rest.check();
    return {};
  }
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept {
    return k.label == key_label::retrieved ? static_cast<position>(at) : rest(k);
  }
  /// Any key may be retrieved one day, so all are stored raw.
  [[nodiscard]] constexpr key_storage storage(const retention&) const noexcept { return {0, true}; }
  [[nodiscard]] constexpr std::optional<position> largest(const retention& r) const noexcept {
    if constexpr (requires { rest.largest(r); }) {
      if (const auto most = rest.largest(r)) return (std::max)(*most, static_cast<position>(at));
    }
    return std::nullopt;
  }
};
template <class Rest>
retrieved_at(std::size_t, Rest) -> retrieved_at<Rest>;

/// A type that maps a key_place to a distance.
template <class D>
concept distance_rule = std::copyable<D> && requires(const D rule, const key_place& k) {
  { rule(k) } -> std::convertible_to<position>;
};

namespace detail {

template <class D>
inline constexpr bool counts_newer = requires {
  requires D::counts_newer;
};

template <class D>
concept has_storage = requires(const D rule, const retention& r) {
  { rule.storage(r) } -> std::same_as<key_storage>;
};
template <class D>
concept mentions_storage = requires {
  &D::storage;
};

template <distance_rule D>
[[nodiscard]] constexpr key_storage storage_of(const D& rule, const retention& r) {
  if constexpr (has_storage<D>) return rule.storage(r);
  return {};
}

template <distance_rule D>
[[nodiscard]] constexpr std::optional<position> largest_of(const D& rule, const retention& r) {
  if constexpr (requires {
                  { rule.largest(r) } -> std::convertible_to<std::optional<position>>;
                })
    return rule.largest(r);
  return std::nullopt;
}

}  // namespace detail

KVKEEP_NAMESPACE_END

#endif
