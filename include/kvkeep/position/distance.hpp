// Distance rules: how far away a key seems to the query that reads it.
//
// A rule maps what is known of a query and a key (key_place) to a distance in tokens. The library turns it into exact
// attention: a key is encoded once, at an anchor (its stream position, or 0 for "raw"), and the query is turned to
// anchor + distance. `raw` says which keys a rule wants raw so that all of them share one turned query.
//
// Write your own: a copyable type with
//   position operator()(const key_place&) const;                      // >= 0
//   stored_form form(position number, const retention&) const;        // optional; default rotated
//   std::optional<position> largest(const retention&) const;          // optional; default unknown
//   static constexpr bool counts_newer = true;                        // only if it reads key_place::newer
//   result<void> check() const;                                       // optional
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
  std::size_t capacity = 0;          ///< tokens held after a step, at most
  std::size_t in_step = 0;           ///< tokens held and coming within a step, at most
  std::size_t read = 0;              ///< tokens that one query reads, at most
  std::optional<position> oldest{};  ///< largest age of a key that a query reads; empty: unbounded
  std::size_t unbounded_first = 0;   ///< the first so many tokens of a stream may be read at any age
  std::optional<position> rest{};    ///< largest age of all others, while nothing is erased; empty: unbounded
  bool few_runs = false;             ///< what is kept is a few ranges of consecutive tokens
};

/// How a key is stored.
enum class stored_form : std::uint8_t {
  rotated,    ///< turned to its stream position, then encoded
  raw,        ///< encoded as it comes; queries turn to the distance itself
  scattered,  ///< raw, and every key of the cache may have its own distance: keys are turned as they are read
};

/// Stream distance: query - key, gaps and all. (Dense, sliding window, and what most engines do.)
struct true_distance {
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept { return k.age(); }
  [[nodiscard]] constexpr std::optional<position> largest(const retention& r) const noexcept { return r.oldest; }
};

/// Distance in the cache: how many newer keys this query reads. (StreamingLLM, arXiv 2309.17453 section 3.2.)
struct cache_distance {
  static constexpr bool counts_newer = true;
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept { return k.newer; }
  [[nodiscard]] constexpr stored_form form(position, const retention& r) const noexcept {
    return r.few_runs ? stored_form::rotated : stored_form::scattered;
  }
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
  [[nodiscard]] constexpr std::optional<position> largest(const retention& r) const noexcept {
    if (!r.rest) return r.oldest;
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
  /// Keys that may outlive the window are stored raw: behind it they share one turned query.
  [[nodiscard]] constexpr stored_form form(position number, const retention& r) const noexcept {
    if (!r.rest || *r.rest >= static_cast<position>(window)) {
      if (r.oldest && *r.oldest < static_cast<position>(window)) return stored_form::rotated;
      return stored_form::scattered;
    }
    return number < static_cast<position>(r.unbounded_first) ? stored_form::raw : stored_form::rotated;
  }
  [[nodiscard]] constexpr std::optional<position> largest(const retention&) const noexcept {
    return static_cast<position>((std::max)(window, at));
  }
  [[nodiscard]] result<void> check() const {
    if (window >= 1) return {};
    return detail::bad_argument("beyond.window", window, ">= 1: the window counts the query itself");
  }
};

/// True up to `limit`, and `limit` for everything older.
struct clamped_distance {
  std::size_t limit = 2048;

  [[nodiscard]] constexpr beyond as_beyond() const noexcept { return {(std::max)(limit, std::size_t{1}), limit}; }
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept {
    return (std::min)(k.age(), static_cast<position>(limit));
  }
  [[nodiscard]] constexpr stored_form form(position number, const retention& r) const noexcept {
    return as_beyond().form(number, r);
  }
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
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept {
    return k.label == key_label::retrieved ? static_cast<position>(at) : rest(k);
  }
  /// Any key may be retrieved one day, so all are stored raw.
  [[nodiscard]] constexpr stored_form form(position, const retention&) const noexcept { return stored_form::scattered; }
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

template <distance_rule D>
[[nodiscard]] constexpr stored_form form_of(const D& rule, position number, const retention& r) {
  if constexpr (requires {
                  { rule.form(number, r) } -> std::same_as<stored_form>;
                })
    return rule.form(number, r);
  return stored_form::rotated;
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
