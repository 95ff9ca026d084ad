// surprisals: how unexpected tokens were, from the logits of the model that reads them: what commit({.surprisals}) is told.
//
//   kvkeep::surprisal_stream told(vocabulary);
//   auto step = cache.begin(n);
//   ... logits [n][vocabulary] of the step's tokens ...
//   told.push({logits, n, vocabulary}, token_ids, values);   // values[i] = -ln P(token_ids[i] | all before)
//   step.commit({.surprisals = values});
// The first token of a stream, which nothing predicted, has infinity unless surprisal_stream is given another value.
//
// Softmax is computed as the logarithm of a sum of e^(logit - the largest), in floats for short stretches and in double from
// there: no vocabulary and no logit overflows it, and a token's value is finite as long as its logit is (at most the largest
// float). Errors: about 1e-6 of the value, or 1e-6 where the value is smaller than 1 and not that of the likeliest token.
// Source of the measure: Yao, Li, Zhao, "SirLLM: Streaming Infinite Retentive LLM", ACL 2024, arXiv 2405.12528, section 3.1.
#ifndef KVKEEP_POLICY_EVIDENCE_SURPRISALS_HPP
#define KVKEEP_POLICY_EVIDENCE_SURPRISALS_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kvkeep/core/types.hpp"
#include "kvkeep/detail/exp.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Logits of some tokens, [tokens][vocabulary], rows one after the other. Row t is the model's output at token t: it predicts
/// the token after it. It owns nothing.
struct logits_view {
  const float* data = nullptr;
  std::size_t tokens = 0;
  std::size_t vocabulary = 0;

  [[nodiscard]] std::span<const float> row(std::size_t t) const noexcept { return {data + t * vocabulary, vocabulary}; }
};

/// What the values of a token are.
enum class token_measure : std::uint8_t {
  surprisal,  ///< -ln P(token | before)
  entropy,    ///< -sum P ln P of the distribution that the token was drawn from: what was open before it came
};

namespace detail {

/// A distribution's logits summed up.
struct logit_sums {
  double top = 0.0;       // the largest logit
  double log_rest = 0.0;  // ln of the sum of e^(logit - top)
  double entropy = 0.0;   // in nats
  bool usable = true;     // false: a NaN, +infinity, or nothing but -infinity
};

[[nodiscard]] inline logit_sums sums_of(std::span<const float> logits) noexcept {
  const float* const in = logits.data();
  const std::size_t whole = logits.size() / vec_width * vec_width;
  vec tops = splat(-std::numeric_limits<float>::infinity());
  vec_int broken{};
  for (std::size_t i = 0; i < whole; i += vec_width) {
    const vec x = load(in + i);
    broken |= are_nan(x);
    tops = larger(x, tops);
  }
  float top = largest(tops);
  bool any_nan = sum_of(broken) != 0;
  for (std::size_t i = whole; i < logits.size(); ++i) {
    any_nan = any_nan || is_nan(in[i]);
    top = (std::max)(top, in[i]);
  }
  logit_sums out;
  out.usable = !any_nan && std::isfinite(top);
  if (!out.usable) return out;
  // The largest are counted and the others summed, so that what little they have beside the largest is not rounded away.
  double tops_found = 0.0;
  double others = 0.0;
  double moment = 0.0;                             // of e^x x, x below the largest
  constexpr std::size_t stretch = 16 * vec_width;  // summed in floats
  for (std::size_t first = 0; first < whole; first += stretch) {
    vec part{};
    vec part_moment{};
    vec_int found{};
    for (std::size_t i = first; i < (std::min)(first + stretch, whole); i += vec_width) {
      const vec below = load(in + i) - splat(top);
      const vec weight = below < 0.0F ? exp_below(below) : vec{};
      part += weight;
      part_moment += weight > 0.0F ? weight * below : vec{};
      found -= below == vec{};
    }
    tops_found += static_cast<double>(sum_of(found));
    others += static_cast<double>(sum_of(part));
    moment += static_cast<double>(sum_of(part_moment));
  }
  for (std::size_t i = whole; i < logits.size(); ++i) {
    const float below = in[i] - top;
    if (below == 0.0F) {
      tops_found += 1.0;
      continue;
    }
    const float weight = exp_below(below);
    others += static_cast<double>(weight);
    if (weight > 0.0F) moment += static_cast<double>(weight) * static_cast<double>(below);
  }
  out.top = static_cast<double>(top);
  out.log_rest = std::log(tops_found) + std::log1p(others / tops_found);
  out.entropy = (std::max)(0.0, out.log_rest - moment / (tops_found + others));
  return out;
}

/// -ln P(id) under logits that were summed up.
[[nodiscard]] inline float surprisal_of(const logit_sums& sums, std::span<const float> logits,
                                        std::int32_t id) noexcept {
  const float logit = logits[static_cast<std::size_t>(id)];
  if (logit == -std::numeric_limits<float>::infinity()) return std::numeric_limits<float>::infinity();
  const double value = sums.top - static_cast<double>(logit) + sums.log_rest;
  return static_cast<float>(std::clamp(value, 0.0, static_cast<double>((std::numeric_limits<float>::max)())));
}
[[nodiscard]] inline float value_of(token_measure kind, const logit_sums& sums, std::span<const float> logits,
                                    std::int32_t id) noexcept {
  return kind == token_measure::entropy ? static_cast<float>(sums.entropy) : surprisal_of(sums, logits, id);
}

[[nodiscard]] inline result<void> check_token_ids(const logits_view& logits, std::span<const std::int32_t> token_ids) {
  if (logits.vocabulary < 1 || logits.vocabulary > 2147483647) {
    return bad_argument("logits.vocabulary", logits.vocabulary, "1 .. 2147483647");
  }
  if (token_ids.size() != logits.tokens) {
    return bad_argument("token_ids", fmt::format("{} ids", token_ids.size()),
                        fmt::format("one a row of logits: {}", logits.tokens));
  }
  for (std::size_t t = 0; t < token_ids.size(); ++t) {
    if (token_ids[t] >= 0 && static_cast<std::size_t>(token_ids[t]) < logits.vocabulary) continue;
    return bad_argument(fmt::format("token_ids[{}]", t), token_ids[t], fmt::format("0 .. {}", logits.vocabulary - 1));
  }
  return {};
}
[[nodiscard]] inline result<void> check_out(std::size_t size, std::size_t tokens) {
  if (size == tokens) return {};
  return bad_argument("out", fmt::format("{} values", size), fmt::format("one a token: {}", tokens));
}
[[nodiscard]] inline error unusable_row(std::size_t t) {
  return make_error(errc::invalid_argument, fmt::format("logits[{}]", t),
                    fmt::format("row {} of logits is no distribution: it has a NaN or +infinity, or is -infinity "
                                "throughout",
                                t));
}

}  // namespace detail

/// out[t] = the measure of token_ids[t] under row t of `logits`: here row t is what predicted token t. [tokens] each.
/// Errors: counts that do not match; a token id out of range; a row that is no distribution. `out` is then undefined.
/// Cost: reads every logit twice. Allocates nothing.
[[nodiscard]] inline result<void> try_surprisals(const logits_view& logits, std::span<const std::int32_t> token_ids,
                                                 std::span<float> out, token_measure kind = token_measure::surprisal) {
  if (auto ok = detail::check_token_ids(logits, token_ids); !ok) return ok;
  if (auto ok = detail::check_out(out.size(), logits.tokens); !ok) return ok;
  for (std::size_t t = 0; t < logits.tokens; ++t) {
    const detail::logit_sums sums = detail::sums_of(logits.row(t));
    if (!sums.usable) return detail::unusable_row(t);
    out[t] = detail::value_of(kind, sums, logits.row(t), token_ids[t]);
  }
  return {};
}

/// The values of a stream that comes in chunks: the last row of logits of a chunk predicts the first token of the next, and
/// is kept (vocabulary floats). Any chunking gives the same values, bit for bit. Copyable; one thread at a time.
/// It does not follow a cache: push what is committed, or, where a step may be left or shortened, push to a copy and keep it
/// if all of the step is committed.
class surprisal_stream {
 public:
  /// `first`: the value of the stream's first token, which nothing predicted; infinity ranks it first.
  [[nodiscard]] static result<surprisal_stream> try_make(std::size_t vocabulary,
                                                         token_measure kind = token_measure::surprisal,
                                                         float first = std::numeric_limits<float>::infinity()) {
    if (vocabulary < 1 || vocabulary > 2147483647) {
      return detail::bad_argument("vocabulary", vocabulary, "1 .. 2147483647");
    }
    if (!(first >= 0.0F)) return detail::bad_argument("first", first, ">= 0, infinity too");
    surprisal_stream made;
    made.last_.resize(vocabulary);
    made.measure_ = kind;
    made.first_ = first;
    return made;
  }
#if KVKEEP_EXCEPTIONS
  explicit surprisal_stream(std::size_t vocabulary, token_measure kind = token_measure::surprisal,
                            float first = std::numeric_limits<float>::infinity())
      : surprisal_stream(detail::unwrap(try_make(vocabulary, kind, first))) {}
#endif

  /// out[t] = the measure of token_ids[t], the next tokens of the stream, whose own outputs `logits` are, [tokens][vocabulary].
  /// Errors as try_surprisals; another vocabulary. The stream is then as it was, `out` undefined.
  [[nodiscard]] result<void> try_push(const logits_view& logits, std::span<const std::int32_t> token_ids,
                                      std::span<float> out) {
    if (logits.vocabulary != last_.size()) {
      return detail::bad_argument("logits.vocabulary", logits.vocabulary,
                                  fmt::format("the stream's: {}", last_.size()));
    }
    if (auto ok = detail::check_token_ids(logits, token_ids); !ok) return ok;
    if (auto ok = detail::check_out(out.size(), logits.tokens); !ok) return ok;
    if (logits.tokens == 0) return {};
    detail::logit_sums before = sums_;
    for (std::size_t t = 0; t < logits.tokens; ++t) {
      const std::span<const float> row = t == 0 ? std::span<const float>(last_) : logits.row(t - 1);
      out[t] = t == 0 && !begun_ ? first_ : detail::value_of(measure_, before, row, token_ids[t]);
      before = detail::sums_of(logits.row(t));
      if (!before.usable) return detail::unusable_row(t);
    }
    const std::span<const float> row = logits.row(logits.tokens - 1);
    std::copy(row.begin(), row.end(), last_.begin());
    sums_ = before;
    begun_ = true;
    return {};
  }
#if KVKEEP_EXCEPTIONS
  void push(const logits_view& logits, std::span<const std::int32_t> token_ids, std::span<float> out) {
    detail::unwrap(try_push(logits, token_ids, out));
  }
#endif
  /// Begins another stream.
  void clear() noexcept { begun_ = false; }

 private:
  surprisal_stream() = default;

  std::vector<float> last_;  // [vocabulary]: the last row of the chunk before
  detail::logit_sums sums_;  // of it
  token_measure measure_ = token_measure::surprisal;
  float first_ = 0.0F;
  bool begun_ = false;
};

/// The values of one turn as the authors' code makes them, for sir_llm::published. Row t of `logits` is the output at token t,
/// but what it is asked for is the probability of token t once more: out[t + 1] = -ln P(next = token_ids[t]), and the first
/// token gets the largest of all rows' values, the last row's too. [tokens] each. Errors as try_surprisals. Source: the
/// authors' code at 4c95578 (their list is shifted by one and the token ids are not).
[[nodiscard]] inline result<void> try_published_surprisals(const logits_view& logits,
                                                           std::span<const std::int32_t> token_ids,
                                                           std::span<float> out) {
  if (auto ok = try_surprisals(logits, token_ids, out); !ok) return ok;
  if (out.empty()) return {};
  const float largest = *std::max_element(out.begin(), out.end());
  std::move_backward(out.begin(), out.end() - 1, out.end());
  out[0] = largest;
  return {};
}

#if KVKEEP_EXCEPTIONS
/// try_surprisals; returns [tokens]. Row t of `logits` is what predicted token t, the model's output at the token before it:
/// for outputs at the tokens themselves, surprisal_stream puts them right.
[[nodiscard]] inline std::vector<float> surprisals(const logits_view& logits, std::span<const std::int32_t> token_ids,
                                                   token_measure kind = token_measure::surprisal) {
  std::vector<float> out(logits.tokens);
  detail::unwrap(try_surprisals(logits, token_ids, out, kind));
  return out;
}
/// try_published_surprisals; returns [tokens].
[[nodiscard]] inline std::vector<float> published_surprisals(const logits_view& logits,
                                                             std::span<const std::int32_t> token_ids) {
  std::vector<float> out(logits.tokens);
  detail::unwrap(try_published_surprisals(logits, token_ids, out));
  return out;
}
#endif

KVKEEP_NAMESPACE_END

#endif
