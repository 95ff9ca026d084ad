// log_sparse: a few newest tokens, and before them tokens whose distances double.
//
//   A(i) = { j : i - j < window, or i - j = window - 1 + 2^k for some k >= 0 }
// window 1 is the paper's LogSparse: {i, i - 1, i - 2, i - 4, ...}; any token reaches any later one in log2 steps.
// Source: Li, Jin, Xuan, Zhou, Chen, Wang, Yan, "Enhancing the Locality and Breaking the Memory Bottleneck of Transformer on
// Time Series Forecasting", NeurIPS 2019, arXiv 1907.00235, section 4.2 (LogSparse, local and restart attention).
#ifndef KVKEEP_POLICY_SELECT_LOG_SPARSE_HPP
#define KVKEEP_POLICY_SELECT_LOG_SPARSE_HPP

#include <algorithm>
#include <bit>
#include <optional>
#include <string_view>

#include "kvkeep/policy/select/pattern_parts.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What becomes of log_sparse every `restart` tokens.
enum class log_restarts : std::uint8_t {
  segments,  ///< the stream is cut into segments; a query reads nothing before its own. What is needed is bounded
  repeated,  ///< counted back from the query, the same pattern begins anew in every stretch of them: the authors' code
};

/// Query i reads `window` newest tokens, itself included, and of those before them the 1st, 2nd, 4th, 8th ... The paper counts
/// from 1; where it would reach the token before the first there is none to read. (The authors' code also lets the first
/// window / restart * 2 * ceil(log2 restart) queries of a training window read all; here the pattern holds from the first query.)
/// Query i + 1 reads tokens that query i does not: only with segments can anybody leave. Cost: one division a token held and
/// query where it restarts.
struct log_sparse {
  std::size_t window = 1;   ///< tokens, the query included, >= 1; the authors' code: ceil(log2 restart)
  std::size_t restart = 0;  ///< tokens, >= 1; 0: the pattern goes on to the begin of the stream
  log_restarts restarts = log_restarts::segments;

  /// What still_read says where everything is needed.
  static constexpr std::string_view everything_because =
      "log_sparse without segments (restart >= 1, restarts = segments) reads tokens again that the query before did "
      "not";

  [[nodiscard]] constexpr bool reads(position query, position key) const noexcept {
    const position age = query - key;
    if (restart == 0) return reads_age(age);
    const auto length = static_cast<position>(restart);
    if (restarts == log_restarts::segments) return query / length == key / length && reads_age(age);
    return reads_age(age % length);
  }

  // What still_read asks.

  [[nodiscard]] constexpr pattern_need needs() const noexcept {
    return restart > 0 && restarts == log_restarts::segments ? pattern_need::bounded : pattern_need::everything;
  }
  /// The newest query that reads a key.
  [[nodiscard]] constexpr position last_reader(position key) const noexcept {
    if (needs() == pattern_need::everything) return read_for_ever;
    const auto length = static_cast<position>(restart);
    const auto close = static_cast<position>(window) - 1;  // the largest age of the window
    const position most = length - 1 - key % length;       // age at the end of the segment
    if (most <= close) return key + most;
    return key + close + static_cast<position>(std::bit_floor(static_cast<std::uint64_t>(most - close)));
  }
  /// Tokens that are needed at once in a stream of so many, at most.
  [[nodiscard]] constexpr std::size_t most_needed(std::size_t tokens) const noexcept {
    return needs() == pattern_need::everything ? tokens : (std::min)(restart, tokens);
  }

  /// The largest age + 1 of what is needed, if there is one.
  [[nodiscard]] constexpr std::optional<position> oldest() const noexcept {
    if (needs() == pattern_need::everything) return std::nullopt;
    return static_cast<position>(restart);
  }

  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("window", window, 1); !ok) return ok;
    if (auto ok = detail::check_tokens("restart", restart, 0); !ok) return ok;
    if (restart > 0 && window > restart) {
      return detail::bad_argument("window", window, fmt::format("1 .. restart = {}", restart));
    }
    if (restarts <= log_restarts::repeated) return {};
    return detail::bad_argument("restarts", static_cast<int>(restarts), "segments or repeated");
  }

 private:
  [[nodiscard]] constexpr bool reads_age(position age) const noexcept {
    const position behind = age - static_cast<position>(window) + 1;
    return behind <= 0 || std::has_single_bit(static_cast<std::uint64_t>(behind));
  }
};

KVKEEP_NAMESPACE_END

#endif
