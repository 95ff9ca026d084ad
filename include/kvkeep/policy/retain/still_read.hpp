// still_read: the tokens that a pattern's queries, this one or any to come, still read.
//
//   policy{still_read<fixed>{fixed{.block = 128, .columns = 32}, 65536}, fixed{.block = 128, .columns = 32}, true_distance{}}
// A pattern is a select rule that positions alone decide (select/strided.hpp, fixed.hpp, log_sparse.hpp, or one of yours). A
// token leaves as soon as no query to come can read it, so that outputs are bit for bit those of a cache that keeps all.
// Where layers or kv heads read differently, each keeps what it needs itself.
//
// A pattern of yours is a select rule with, in this order of preference,
//   position last_reader(position key) const;             // the newest query that reads a key, or read_for_ever
//   std::size_t longest() const;                          // or the longest stream, through which still_read looks for readers;
//                                                         // where none of its first half has had its last reader by the
//                                                         // middle, still_read refuses to evict by the pattern
// and optionally
//   pattern_need needs() const;                           // believed; default: growing, which is looked for as above
//   std::size_t most_needed(std::size_t tokens) const;    // kept at once in such a stream, at most; default: tokens
//   std::optional<position> oldest() const;               // the largest age + 1 of what is needed, in all variants; for
//                                                         // encodings that ask for the largest distance
//   kvkeep::scope scope() const;                          // where variants differ; default: by kv head
//   static constexpr std::string_view everything_because; // why nobody can leave, for the error
// With variants, the functions that take a key or tokens have the variant before them, and needs(variant).
#ifndef KVKEEP_POLICY_RETAIN_STILL_READ_HPP
#define KVKEEP_POLICY_RETAIN_STILL_READ_HPP

#include <algorithm>
#include <optional>
#include <string>

#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/rule_limits.hpp"
#include "kvkeep/policy/select/pattern_parts.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What still_read does where a pattern reads every token for ever.
enum class endless : std::uint8_t {
  refused,  ///< an error at construction
  kept,     ///< keeps everything there, up to max_tokens
};

namespace detail {

template <class P>
concept has_last_reader = requires(const P p, position at) {
  { p.last_reader(at) } -> std::convertible_to<position>;
}
|| requires(const P p, std::size_t variant, position at) {
  { p.last_reader(variant, at) } -> std::convertible_to<position>;
};

/// A pattern's functions, whether it has variants or not, with the defaults of those it lacks.
template <class P>
struct pattern_view {
  const P& pattern;

  static constexpr bool varies = variant_select<P>;
  [[nodiscard]] constexpr std::size_t variants() const {
    if constexpr (varies) return pattern.variants();
    return 1;
  }
  [[nodiscard]] constexpr std::size_t variant(const unit_place& place) const {
    if constexpr (varies) return pattern.variant(place);
    return 0;
  }
  [[nodiscard]] constexpr kvkeep::scope scope() const {
    if constexpr (!varies) {
      return kvkeep::scope::sequence;
    } else if constexpr (requires { pattern.scope(); }) {
      return pattern.scope();
    } else {
      return kvkeep::scope::kv_head;
    }
  }
  [[nodiscard]] constexpr pattern_need needs(std::size_t variant) const {
    if constexpr (requires { pattern.needs(variant); }) {
      return pattern.needs(variant);
    } else if constexpr (requires { pattern.needs(); }) {
      return pattern.needs();
    } else {
      return pattern_need::growing;
    }
  }
  [[nodiscard]] constexpr std::size_t most_needed(std::size_t variant, std::size_t tokens) const {
    if constexpr (requires { pattern.most_needed(variant, tokens); }) {
      return pattern.most_needed(variant, tokens);
    } else if constexpr (requires { pattern.most_needed(tokens); }) {
      return pattern.most_needed(tokens);
    } else {
      return tokens;
    }
  }
  /// Whether the pattern says itself what is needed.
  [[nodiscard]] static constexpr bool knows_needs() {
    return requires(const P p) { p.needs(); }
    || requires(const P p) { p.needs(std::size_t{}); };
  }
  [[nodiscard]] static constexpr bool knows_most() {
    return requires(const P p) { p.most_needed(std::size_t{}); }
    || requires(const P p) { p.most_needed(std::size_t{}, std::size_t{}); };
  }
  /// Whether, in a stream of so many tokens, any of the first half has had its last reader by the middle. Cost: up to
  /// tokens^2 / 4 calls of `reads`, where some leave usually tokens / 2.
  [[nodiscard]] constexpr bool frees_in(std::size_t variant, std::size_t tokens) const {
    const auto middle = static_cast<position>(tokens / 2);
    for (position key = 0; key < middle; ++key) {
      if (!needed(variant, key, middle, static_cast<position>(tokens))) return true;
    }
    return tokens < 4;
  }
  /// Whether one of the queries first .. end - 1, or with last_reader any from `first` on, reads a key.
  [[nodiscard]] constexpr bool needed(std::size_t variant, position key, position first, position end) const {
    if constexpr (requires { pattern.last_reader(variant, key); }) {
      return pattern.last_reader(variant, key) >= first;
    } else if constexpr (requires { pattern.last_reader(key); }) {
      return pattern.last_reader(key) >= first;
    } else {
      for (position query = first; query < end; ++query) {
        if constexpr (varies) {
          if (pattern.reads(variant, query, key)) return true;
        } else {
          if (pattern.reads(query, key)) return true;
        }
      }
      return false;
    }
  }
};

}  // namespace detail

/// Keeps what a query of `pattern` reads, or any that can come. Goes with each_token and after_step; erase() takes tokens
/// away as from any rule, reserve() does not. Cost: last_reader once a token held and query; without it a search for the
/// next reader. What a pattern says of itself is believed: one that names too few is done with tokens too early. Errors at
/// construction: the pattern's own; a pattern that reads every token for ever (unless `everything` is kept), by its own word
/// or as far as longest() shows; max_tokens missing where what is needed grows, or is not told; a model or schedule that
/// does not fit. At begin: a stream longer than max_tokens or than the pattern's longest().
template <class Pattern>
struct still_read {
  static_assert(detail::pattern_select<Pattern> || detail::variant_select<Pattern>,
                "kvkeep: still_read needs a pattern with `bool reads(position query, position key) const`, or with "
                "variants; see kvkeep/policy/policy.hpp");
  static_assert(
      detail::has_last_reader<Pattern> || requires(const Pattern p) { p.longest(); },
      "kvkeep: still_read needs a pattern with `position last_reader(position key) const` or "
      "`std::size_t longest() const`; see kvkeep/policy/retain/still_read.hpp");

  Pattern pattern{};
  std::size_t max_tokens = 0;  ///< of the stream; 0: any number, where what is needed stays bounded
  endless everything = endless::refused;

  struct state {
    position newest;      // of the stream so far; before the first token -1
    std::size_t variant;  // of the unit
    bool keeps_all;
  };

  static constexpr bool pays = false;
  static constexpr bool makes_room = true;
  static constexpr kvkeep::scope scope =
      detail::variant_select<Pattern> ? kvkeep::scope::kv_head : kvkeep::scope::sequence;
  [[nodiscard]] constexpr kvkeep::scope used_scope() const { return view().scope(); }
  [[nodiscard]] constexpr std::size_t share(const unit_place& place) const requires(scope != kvkeep::scope::sequence) {
    return share_of_variant(view().variant(place));
  }
  [[nodiscard]] constexpr std::size_t share() const requires(scope == kvkeep::scope::sequence) {
    return share_of_variant(0);
  }
  [[nodiscard]] constexpr state start(const unit_place& place) const {
    const std::size_t variant = view().variant(place);
    return {-1, variant, view().needs(variant) == pattern_need::everything};
  }
  [[nodiscard]] constexpr state advance(state s, const held_token& t) const noexcept {
    s.newest = t.at;
    return s;
  }
  [[nodiscard]] constexpr bool claims_all(const state& s) const noexcept { return s.keeps_all; }
  [[nodiscard]] constexpr bool claims(const held_token& t, const state& s) const {
    if (s.keeps_all) return true;
    const position first_position = t.at - t.number;
    return view().needed(s.variant, t.at, s.newest, first_position + static_cast<position>(longest()));
  }
  /// Tokens that a stream may have; 0: any number.
  [[nodiscard]] constexpr std::size_t longest() const {
    if constexpr (requires { pattern.longest(); }) {
      return max_tokens == 0 ? pattern.longest() : (std::min)(max_tokens, std::size_t{pattern.longest()});
    } else {
      return max_tokens;
    }
  }
  [[nodiscard]] constexpr std::optional<position> oldest() const {
    std::optional<position> most;
    if (longest() > 0) most = static_cast<position>(longest());
    if constexpr (requires { pattern.oldest(); }) {
      const std::optional<position> own = pattern.oldest();
      if (own && (!most || *own < *most)) most = own;
    }
    return most;
  }
  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_of(pattern); !ok) return ok;
    if (auto ok = detail::check_tokens("max_tokens", max_tokens, 0); !ok) return ok;
    if (everything > endless::kept) {
      return detail::bad_argument("everything", static_cast<int>(everything), "refused or kept");
    }
    bool grows = false;
    for (std::size_t v = 0; v < view().variants(); ++v) {
      const pattern_need need = view().needs(v);
      if (need == pattern_need::everything && everything == endless::refused) {
        std::string because = "the pattern reads every token for ever";
        if constexpr (requires { Pattern::everything_because; }) because = std::string(Pattern::everything_because);
        return detail::make_error(
            errc::unsupported, "still_read.pattern",
            fmt::format("{}, so it evicts nothing: keep_all{{max_tokens}} is the retain rule to read it from",
                        because));
      }
      grows = grows || need != pattern_need::bounded;
      if constexpr (!detail::pattern_view<Pattern>::knows_needs()) {
        if (everything == endless::refused && stated() > 0 && !view().frees_in(v, stated())) {
          return detail::make_error(
              errc::unsupported, "still_read.pattern",
              fmt::format(
                  "in a stream of {} tokens not one of the first half has had its last reader by the middle, so "
                  "the pattern evicts nothing: keep_all{{max_tokens}} is the retain rule to read it from",
                  stated()));
        }
      }
    }
    if constexpr (requires { pattern.longest(); }) {
      if (auto ok = detail::check_tokens("longest", pattern.longest(), 1); !ok) return ok;
    }
    if (longest() > 0) return {};
    const auto missing = [&](std::string_view why) {
      return detail::bad_argument("max_tokens", max_tokens, fmt::format("1 .. {}: {}", most_held, why));
    };
    if (grows) return missing("what this pattern needs grows with the stream");
    if (detail::pattern_view<Pattern>::knows_most()) return {};
    return missing("the pattern does not say how many tokens are needed at once (most_needed)");
  }
  [[nodiscard]] result<void> check_shape(const model_shape& shape) const {
    if (auto ok = detail::check_shape_of(pattern, shape); !ok) return ok;
    return detail::check_variants_of(pattern, shape);
  }
  [[nodiscard]] result<void> check_when(const schedule& acts) const {
    if (acts.when != schedule::act::before_step && acts.together == 1) return {};
    return detail::make_error(errc::unsupported, "when",
                              "still_read goes with each_token or after_step, not with before_step or each_block");
  }

 private:
  static constexpr std::size_t most_held = 2147483647;

  [[nodiscard]] constexpr detail::pattern_view<Pattern> view() const noexcept { return {pattern}; }
  /// The longest stream of the pattern itself, or max_tokens.
  [[nodiscard]] constexpr std::size_t stated() const {
    if constexpr (requires { pattern.longest(); }) {
      return pattern.longest();
    } else {
      return max_tokens;
    }
  }
  [[nodiscard]] constexpr std::size_t share_of_variant(std::size_t variant) const {
    return view().most_needed(variant, longest() == 0 ? most_held : longest());
  }
};
template <class Pattern>
still_read(Pattern) -> still_read<Pattern>;
template <class Pattern>
still_read(Pattern, std::size_t) -> still_read<Pattern>;
template <class Pattern>
still_read(Pattern, std::size_t, endless) -> still_read<Pattern>;

KVKEEP_NAMESPACE_END

#endif
