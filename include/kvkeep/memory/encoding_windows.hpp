// encoding_windows: how an input longer than a model was trained on is encoded in overlapping windows.
//
//   const auto windows = kvkeep::make_encoding_windows(tokens, {.window = 1024});       // BART
//   for (std::size_t i = 0; i < windows.size(); ++i) {
//     const kvkeep::encoding_window w = windows[i];
//     ...                                               // encode tokens [w.begin, w.end), at positions 0, 1, ...
//     store.append(hidden.tokens_from(w.keep_begin - w.begin, w.keep_end - w.keep_begin));
//   }
//
// Every token is kept of exactly one window. Pure functions of a few numbers: no allocation, any thread.
//
// Source: Bertsch et al., "Unlimiformer: Long-Range Transformers with Unlimited Length Input", NeurIPS 2023, arXiv 2305.01625,
// section 2 (encoding); code abertsch72/unlimiformer at e38b014, which has the windows of SLED (Ivgy et al. 2022, arXiv 2208.00748).
#ifndef KVKEEP_MEMORY_ENCODING_WINDOWS_HPP
#define KVKEEP_MEMORY_ENCODING_WINDOWS_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kvkeep/core/result.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Which tokens of a window are kept: those that saw enough of what matters to them.
enum class kept_part : std::uint8_t {
  middle,  ///< those with context on both sides: encoders; the first window keeps its start, the last one its end
  newest,  ///< those with context before them: decoder-only models; the first window keeps all
};

/// How windows are cut. The margin is floor(window * overlap / 2), and windows begin window - 2 * margin tokens apart, but for
/// the last one, which ends where the input ends.
struct encoding_window_options {
  std::size_t window = 0;  ///< tokens, 1 .. 2147483647; no default: what the model was trained on
  double overlap = 0.5;    ///< share of a window, 0 <= overlap < 1; published 0.5
  kept_part keeps = kept_part::middle;
};

/// Tokens [begin, end) are encoded together; of them [keep_begin, keep_end) are kept. All are numbers of the input's tokens.
struct encoding_window {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t keep_begin = 0;
  std::size_t keep_end = 0;

  friend bool operator==(const encoding_window&, const encoding_window&) = default;
};

/// The windows of one input, in order; made by make_encoding_windows. What is kept of them joins without gap or overlap to [0, tokens).
class encoding_windows {
 public:
  /// Windows there are.
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  /// Tokens from the start of a window to that of the next one, the last apart; at least 1.
  [[nodiscard]] std::size_t stride() const noexcept { return stride_; }
  /// Window i < size().
  [[nodiscard]] encoding_window operator[](std::size_t i) const noexcept {
    const bool last = i + 1 == count_;
    const std::size_t begin = !last ? i * stride_ : tokens_ > window_ ? tokens_ - window_ : 0;
    return {begin, (std::min)(begin + window_, tokens_), i == 0 ? 0 : kept_before(i),
            last ? tokens_ : kept_before(i + 1)};
  }

 private:
  friend result<encoding_windows> try_make_encoding_windows(std::size_t, const encoding_window_options&);
  encoding_windows(std::size_t tokens, const encoding_window_options& options) noexcept
      : tokens_(tokens), window_(options.window) {
    const auto margin = static_cast<std::size_t>(std::floor(static_cast<double>(window_) * options.overlap / 2.0));
    stride_ = window_ - 2 * margin;
    first_ = options.keeps == kept_part::middle ? window_ - margin : window_;
    count_ = tokens == 0 ? 0 : tokens <= window_ ? 1 : 1 + (tokens - window_ + stride_ - 1) / stride_;
  }
  /// Tokens that the windows before i > 0 keep.
  [[nodiscard]] std::size_t kept_before(std::size_t i) const noexcept { return first_ + (i - 1) * stride_; }

  std::size_t tokens_ = 0;
  std::size_t window_ = 1;
  std::size_t stride_ = 1;
  std::size_t first_ = 1;  // tokens kept of the first of several windows
  std::size_t count_ = 0;
};

/// The windows of an input of `tokens` tokens, 0 .. 2^62; of 0 tokens there are none, of up to `window` one. Errors: tokens,
/// window, overlap, keeps out of range.
[[nodiscard]] inline result<encoding_windows> try_make_encoding_windows(std::size_t tokens,
                                                                        const encoding_window_options& options) {
  constexpr std::size_t most = std::size_t{1} << 62;
  if (tokens > most) return detail::bad_argument("tokens", tokens, fmt::format("0 .. {}", most));
  if (options.window < 1 || options.window > 2147483647) {
    return detail::bad_argument("window", options.window, "1 .. 2147483647");
  }
  if (!(options.overlap >= 0.0 && options.overlap < 1.0)) {
    return detail::bad_argument("overlap", options.overlap, "0 <= overlap < 1: windows of stride 0 reach no end");
  }
  if (options.keeps != kept_part::middle && options.keeps != kept_part::newest) {
    return detail::bad_argument("keeps", static_cast<int>(options.keeps), "middle or newest");
  }
  return encoding_windows(tokens, options);
}

#if KVKEEP_EXCEPTIONS
/// try_make_encoding_windows that throws its error.
[[nodiscard]] inline encoding_windows make_encoding_windows(std::size_t tokens,
                                                            const encoding_window_options& options) {
  return detail::unwrap(try_make_encoding_windows(tokens, options));
}
#endif

KVKEEP_NAMESPACE_END

#endif
