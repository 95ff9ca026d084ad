// hidden_state_store: one vector a token in place of keys and values, and attention over those that a head would attend to most.
//
//   auto store = kvkeep::make_hidden_state_store({.layers = 12, .query_heads = 16, .kv_heads = 16, .head_dim = 64},
//                                                {.d_model = 1024, .max_tokens = 500000});
//   store.append(hidden);                                            // [n, 1, d_model]: what W_k and W_v are applied to
//   store.attend({wk, wv, bk, bv}, q, {.k = 1024}, out);             // of any layer: [queries, query_heads, head_dim]
//
// Since q . (W_k h) = (W_k^T q) . h, the vectors are searched as they are, each query head with its own W_k^T q: one store serves
// all heads of a layer (decoder-only: the inputs of that layer's projections) or of all layers (encoder-decoder: the encoder's
// output). The bias of the keys adds the same to every score of a query head: it ranks nothing, and is in log_sum_exp.
//
// Search is exact: all vectors are read once a query, for all its heads together; ties: the older token. The scores are those of
// the attention itself, and W_v is applied once to the weighted mean of the vectors found, which equals projecting each of them.
//
// Generated tokens can be searched like those of the prompt: append them (the authors' code leaves them out).
//
// With RoPE a single search is exact only at one distance for all keys, since W_k^T R(a - p) q depends on the key's position p.
// So with `rotary` every key seems `at` tokens away, in search and attention alike. The authors' search vector, which ignores the
// first half of every head, is not offered; squeezed_position and try_project serve who wants keys at other places.
//
// Cost of a query, multiply-adds: query_heads * d_model * (2 head_dim + tokens + k); hidden_state_cost compares models. All memory
// is taken at construction, and try_bytes tells how much; then nothing allocates but an error. Stores f32; holds one sequence.
// One thread at a time a store; an executor shares out the search, and results do not depend on its workers.
//
// Source: Bertsch et al., "Unlimiformer: Long-Range Transformers with Unlimited Length Input", NeurIPS 2023, arXiv 2305.01625,
// section 2 (attention reformulation); code abertsch72/unlimiformer at e38b014.
#ifndef KVKEEP_MEMORY_HIDDEN_STATE_STORE_HPP
#define KVKEEP_MEMORY_HIDDEN_STATE_STORE_HPP

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/executor.hpp"
#include "kvkeep/core/running_top_k.hpp"
#include "kvkeep/detail/exp.hpp"
#include "kvkeep/memory/dot_rows.hpp"
#include "kvkeep/memory/hidden_state_rows.hpp"
#include "kvkeep/memory/hidden_state_types.hpp"
#include "kvkeep/position/rope_frequencies.hpp"
#include "kvkeep/position/rotate.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Hidden states by token number, in the order they were appended: 0, 1, ... Numbers never change; erased ones stay unused.
class hidden_state_store {
 public:
  /// Bytes that a store takes, itself apart. Errors: those of try_make_hidden_state_store. The layers of the shape do not matter.
  [[nodiscard]] static result<std::size_t> try_bytes(const model_shape& shape, const hidden_state_options& options) {
    if (auto ok = check(shape, options); !ok) return ok.error();
    hidden_state_store measured(shape, options);
    return measured.memory_.used();
  }

  [[nodiscard]] const model_shape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::size_t d_model() const noexcept { return d_model_; }
  [[nodiscard]] std::size_t max_tokens() const noexcept { return max_tokens_; }
  /// Tokens appended, erased ones too: the number of the next one.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// Tokens that can be read.
  [[nodiscard]] std::size_t held() const noexcept { return held_before(size_); }
  /// Whether a token can be read: appended, and not erased.
  [[nodiscard]] bool holds(std::size_t token) const noexcept {
    if (token >= size_) return false;
    const unsigned some = held_[token / piece];
    return (some >> token % piece & 1U) != 0;
  }
  /// The vector of a token below size(), [d_model]. Valid until the store is changed.
  [[nodiscard]] std::span<const float> vector(std::size_t token) const noexcept {
    return vectors_.subspan(token * stride_, d_model_);
  }

  /// Appends hidden states, [n, 1, d_model]; they are not scanned. Errors: shape; errc::capacity where they do not fit.
  [[nodiscard]] result<void> try_append(rows_view<const float> hidden) {
    if (auto ok = detail::check_hidden_rows("hidden", hidden, hidden.tokens(), 1, d_model_); !ok) return ok;
    if (hidden.tokens() > max_tokens_ - size_) {
      return detail::make_error(errc::capacity, "hidden",
                                fmt::format("{} tokens come to the {} there are; allowed: max_tokens = {} in all",
                                            hidden.tokens(), size_, max_tokens_));
    }
    for (std::size_t t = 0; t < hidden.tokens(); ++t, ++size_) {
      float* const to = vectors_.data() + size_ * stride_;
      std::copy_n(hidden.row(t, 0), d_model_, to);
      std::fill(to + d_model_, to + stride_, 0.0F);
    }
    return {};
  }

  /// Masks tokens [first, last): no query reads them again. They keep their numbers and memory. Errors: first > last,
  /// last > size().
  [[nodiscard]] result<void> try_erase(std::size_t first, std::size_t last) {
    if (last > size_) return detail::bad_argument("last", last, fmt::format("0 .. size = {}", size_));
    if (first > last) return detail::bad_argument("first", first, fmt::format("0 .. last = {}", last));
    for (std::size_t t = first; t < last; ++t) set_held(t, false);
    return {};
  }

  /// Forgets the tokens from `size` on, as if they had never been appended: speculation that was rejected. Their numbers are
  /// given anew. Errors: size > size().
  [[nodiscard]] result<void> try_truncate(std::size_t size) {
    if (size > size_) return detail::bad_argument("size", size, fmt::format("0 .. {}, the tokens there are", size_));
    for (std::size_t t = size; t < size_; ++t) set_held(t, true);
    size_ = size;
    return {};
  }
  void clear() noexcept { static_cast<void>(try_truncate(0)); }

  /// Attention of q over the read.k tokens of each query head with the largest scores, fewer where fewer are held, none twice.
  /// q and out are [queries, query_heads, head_dim], q before RoPE; query head h uses kv head h / (query_heads / kv_heads). A head
  /// that reads nothing gives NaN. Nothing is scanned: what is not finite makes NaN of the outputs that read it, and a token whose
  /// score is NaN ranks last. Errors, and then nothing is written: shapes, k, scale, room in `chosen`.
  [[nodiscard]] result<void> try_attend(const hidden_state_projection& layer, rows_view<const float> q,
                                        const hidden_state_read& read, rows_view<float> out,
                                        const hidden_state_choice& chosen = {}, const executor_ref& executor = {}) {
    if (auto ok = detail::check_hidden_projection(layer, shape_, d_model_); !ok) return ok;
    if (auto ok = detail::check_hidden_rows("q", q, q.tokens(), shape_.query_heads, shape_.head_dim); !ok) return ok;
    if (auto ok = detail::check_hidden_rows("out", out, q.tokens(), shape_.query_heads, shape_.head_dim); !ok)
      return ok;
    if (auto ok = detail::check_hidden_read(read, max_tokens_, q.tokens(), size_); !ok) return ok;
    if (auto ok = detail::check_hidden_choice(chosen, q.tokens() * shape_.query_heads, read.k); !ok) return ok;
    const auto dim = static_cast<double>(shape_.head_dim);
    const auto scale = static_cast<float>(read.scale != 0.0 ? read.scale : 1.0 / std::sqrt(dim));
    for (std::size_t t = 0; t < q.tokens(); ++t) {
      const std::size_t newest = read.causal ? size_ - q.tokens() + t + 1 : size_;
      const std::size_t visible = newest > read.behind ? newest - read.behind : 0;
      const std::size_t count = (std::min)(read.k, held_before(visible));
      if (count > 0) search(layer, q, t, visible, executor);
      for (std::size_t h = 0; h < shape_.query_heads; ++h) {
        const std::size_t at = t * shape_.query_heads + h;
        if (!chosen.counts.empty()) chosen.counts[at] = static_cast<std::uint32_t>(count);
        const std::span<const std::uint32_t> best = choose(h, visible, count);
        if (!chosen.tokens.empty()) std::copy(best.begin(), best.end(), chosen.tokens.begin() + to_offset(at * read.k));
        const float log_sum_exp = attend_to(layer, h, best, scale, {out.row(t, h), shape_.head_dim});
        if (!chosen.log_sum_exp.empty()) chosen.log_sum_exp[at] = log_sum_exp;
      }
    }
    return {};
  }

  /// The keys, before RoPE, and values of some tokens in a layer, for who attends to them elsewhere: keys and values are
  /// [tokens, kv_heads, head_dim]. Cost: tokens * 2 * kv_heads * head_dim * d_model multiply-adds. Errors: shapes; a token that is not
  /// held.
  [[nodiscard]] result<void> try_project(const hidden_state_projection& layer, std::span<const std::uint32_t> tokens,
                                         rows_view<float> keys, rows_view<float> values) const {
    if (auto ok = detail::check_hidden_projection(layer, shape_, d_model_); !ok) return ok;
    const std::size_t dim = shape_.head_dim;
    if (auto ok = detail::check_hidden_rows("keys", keys, tokens.size(), shape_.kv_heads, dim); !ok) return ok;
    if (auto ok = detail::check_hidden_rows("values", values, tokens.size(), shape_.kv_heads, dim); !ok) return ok;
    for (const std::uint32_t token : tokens) {
      if (!holds(token)) return detail::bad_argument("tokens", token, "numbers of tokens that are held");
    }
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
        apply(layer.wk, layer.bk, h, vector(tokens[i]).data(), keys.row(i, h));
        apply(layer.wv, layer.bv, h, vector(tokens[i]).data(), values.row(i, h));
      }
    }
    return {};
  }

#if KVKEEP_EXCEPTIONS
  // The same, throwing their errors.
  [[nodiscard]] static std::size_t bytes(const model_shape& shape, const hidden_state_options& options) {
    return detail::unwrap(try_bytes(shape, options));
  }
  void append(rows_view<const float> hidden) { detail::unwrap(try_append(hidden)); }
  void erase(std::size_t first, std::size_t last) { detail::unwrap(try_erase(first, last)); }
  void truncate(std::size_t size) { detail::unwrap(try_truncate(size)); }
  void attend(const hidden_state_projection& layer, rows_view<const float> q, const hidden_state_read& read,
              rows_view<float> out, const hidden_state_choice& chosen = {}, const executor_ref& executor = {}) {
    detail::unwrap(try_attend(layer, q, read, out, chosen, executor));
  }
  void project(const hidden_state_projection& layer, std::span<const std::uint32_t> tokens, rows_view<float> keys,
               rows_view<float> values) const {
    detail::unwrap(try_project(layer, tokens, keys, values));
  }
#endif

 private:
  friend result<hidden_state_store> try_make_hidden_state_store(const model_shape&, const hidden_state_options&);
  static constexpr std::size_t task_tokens = 128;  // of a search, a task
  static constexpr std::size_t piece = detail::running_top_k::piece;
  static constexpr std::size_t together = 16;  // pieces that are looked through at once

  /// Lays nothing out but for measuring.
  hidden_state_store(const model_shape& shape, const hidden_state_options& options)
      : shape_(shape),
        d_model_(options.d_model),
        stride_(detail::round_up(options.d_model, detail::padded_floats)),
        max_tokens_(options.max_tokens),
        pairs_(options.rotary ? detail::rotary_dim_of(*options.rotary, shape.head_dim) / 2 : 0) {
    lay_out();
  }

  [[nodiscard]] static std::ptrdiff_t to_offset(std::size_t i) noexcept { return static_cast<std::ptrdiff_t>(i); }

  [[nodiscard]] static result<void> check(const model_shape& shape, const hidden_state_options& options) {
    if (auto ok = shape.check(); !ok) return ok;
    if (options.d_model < 1 || options.d_model > 1048576) {
      return detail::bad_argument("d_model", options.d_model, "1 .. 1048576");
    }
    if (options.max_tokens < 1 || options.max_tokens > 2147483647) {
      return detail::bad_argument("max_tokens", options.max_tokens, "1 .. 2147483647");
    }
    if (options.at > 2147483647) return detail::bad_argument("at", options.at, "0 .. 2147483647");
    if (!options.rotary) {
      if (options.at == 0) return {};
      return detail::bad_argument("at", options.at, "0 without rotary: a distance that nothing depends on");
    }
    if (options.rotary->applied) {
      return detail::make_error(errc::unsupported, "rotary.applied",
                                "rotary.applied = true; allowed: false: hidden states give keys before RoPE");
    }
    if (auto made = try_rope_frequencies(*options.rotary, shape.head_dim, options.at + 1); !made) return made.error();
    return {};
  }

  void lay_out() {
    vectors_ = memory_.take<float>(max_tokens_ * stride_);
    held_ = memory_.take<std::uint16_t>((max_tokens_ + piece - 1) / piece);
    turned_ = memory_.take<float>(shape_.query_heads * shape_.head_dim);
    search_ = memory_.take<float>(detail::round_up(shape_.query_heads, detail::searched_together) * stride_);
    scores_ = memory_.take<float>(shape_.query_heads * score_stride());
    best_.lay_out(memory_, max_tokens_, max_tokens_);
    weights_ = memory_.take<float>(max_tokens_);
    mean_ = memory_.take<float>(stride_);
    cosine_ = memory_.take<double>(pairs_);
    sine_ = memory_.take<double>(pairs_);
  }

  void fill_angles_of(const rope& rotary, std::size_t at) {
    const rope_frequencies frequencies = *try_rope_frequencies(rotary, shape_.head_dim, at + 1);
    fill_angles(static_cast<position>(at), frequencies.inverse, cosine_, sine_);
    layout_ = rotary.layout;
    factor_ = frequencies.attention_factor * frequencies.attention_factor;  // of the query and of the key
  }

  void set_held(std::size_t token, bool held) noexcept {
    const unsigned bit = 1U << token % piece;
    std::uint16_t& some = held_[token / piece];
    some = static_cast<std::uint16_t>(held ? some | bit : some & ~bit);
  }
  /// Those of the last tokens below `end`, fewer than a piece, that can be read.
  [[nodiscard]] std::uint16_t held_in_last(std::size_t end) const noexcept {
    return static_cast<std::uint16_t>(held_[end / piece] & ((1U << end % piece) - 1));
  }
  [[nodiscard]] std::size_t score_stride() const noexcept { return detail::round_up(max_tokens_, piece); }
  /// Tokens below `end` that can be read.
  [[nodiscard]] std::size_t held_before(std::size_t end) const noexcept {
    std::size_t held = 0;
    for (std::size_t i = 0; i < end / piece; ++i) held += static_cast<std::size_t>(std::popcount(held_[i]));
    return end % piece == 0 ? held : held + static_cast<std::size_t>(std::popcount(held_in_last(end)));
  }

  /// The scores of the first `visible` tokens for all heads of query t.
  void search(const hidden_state_projection& layer, const rows_view<const float>& q, std::size_t t, std::size_t visible,
              const executor_ref& executor) {
    const std::size_t dim = shape_.head_dim;
    for (std::size_t h = 0; h < shape_.query_heads; ++h) {
      float* const turned = turned_.data() + h * dim;
      rotate_row(layout_, cosine_, sine_, factor_, {q.row(t, h), dim}, turned);
      float* const vector = search_.data() + h * stride_;
      std::fill_n(vector, d_model_, 0.0F);
      const std::size_t first = h / shape_.group() * dim;
      detail::add_rows(
          vector, d_model_, dim, [&](std::size_t c) { return turned[c]; },
          [&](std::size_t c) { return layer.wk.row(first + c, 0); });
    }
    const auto scan = [&](std::size_t task, std::size_t) {
      detail::score_rows(vectors_.data(), stride_, task * task_tokens, (std::min)((task + 1) * task_tokens, visible),
                         search_.data(), shape_.query_heads, scores_.data(), score_stride());
    };
    executor.run((visible + task_tokens - 1) / task_tokens, scan);
  }

  /// The `count` best of the first `visible` tokens, of which so many at least can be read, best first.
  [[nodiscard]] std::span<const std::uint32_t> choose(std::size_t head, std::size_t visible, std::size_t count) {
    if (count == 0) return {};
    const float* const scores = &scores_[head * score_stride()];
    const std::size_t whole = visible / piece;
    best_.reset(count);
    for (std::size_t i = 0; i < whole; i += together) {
      best_.offer(i * piece, scores + i * piece, held_.subspan(i, (std::min)(together, whole - i)));
    }
    if (visible % piece != 0) {
      const std::uint16_t last = held_in_last(visible);
      best_.offer(whole * piece, scores + whole * piece, {&last, 1});
    }
    best_.finish();
    best_.sort();
    return best_.numbers();
  }

  /// Attention of a head over some tokens, best first; returns the logarithm of the sum of e^score.
  float attend_to(const hidden_state_projection& layer, std::size_t head, std::span<const std::uint32_t> best,
                  float scale, std::span<float> out) {
    if (best.empty()) {
      std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
      return -std::numeric_limits<float>::infinity();
    }
    const std::span<const float> scores = scores_.subspan(head * score_stride(), size_);
    const float top = scores[best[0]];
    float sum = 0.0F;
    for (std::size_t i = 0; i < best.size(); ++i)
      sum += weights_[i] = detail::exp_below((scores[best[i]] - top) * scale);
    std::fill(mean_.begin(), mean_.end(), 0.0F);
    detail::add_rows(
        mean_.data(), stride_, best.size(), [&](std::size_t i) { return weights_[i] / sum; },
        [&](std::size_t i) { return vectors_.data() + best[i] * stride_; });
    const std::size_t kv_head = head / shape_.group();
    apply(layer.wv, layer.bv, kv_head, mean_.data(), out.data());
    const std::size_t dim = shape_.head_dim;
    const float* const turned = turned_.data() + head * dim;
    const float bias = layer.bk.empty() ? 0.0F : detail::dot_rows(turned, layer.bk.data() + kv_head * dim, dim);
    return (top + bias) * scale + std::log(sum);
  }

  /// out = W x + b for one kv head, [head_dim].
  void apply(const rows_view<const float>& weights, std::span<const float> bias, std::size_t kv_head, const float* x,
             float* out) const noexcept {
    for (std::size_t c = 0; c < shape_.head_dim; ++c) {
      const std::size_t row = kv_head * shape_.head_dim + c;
      out[c] = detail::dot_rows(weights.row(row, 0), x, d_model_) + (bias.empty() ? 0.0F : bias[row]);
    }
  }

  model_shape shape_;
  std::size_t d_model_ = 0;
  std::size_t stride_ = 0;  // floats of a vector with what pads it
  std::size_t max_tokens_ = 0;
  std::size_t size_ = 0;
  std::size_t pairs_ = 0;  // of components that turn
  rope_layout layout_ = rope_layout::half_split;
  double factor_ = 1.0;
  detail::arena memory_;

  std::span<float> vectors_;       // [max_tokens][stride]
  std::span<std::uint16_t> held_;  // a bit a token: not erased
  std::span<float> turned_;        // [query_heads][head_dim]: a query at its distance
  std::span<float> search_;        // [query_heads, rounded up][stride]: W_k^T of that
  std::span<float> scores_;        // [query_heads][score_stride()]
  detail::running_top_k best_;
  std::span<float> weights_;  // [max_tokens]
  std::span<float> mean_;     // [stride]
  std::span<double> cosine_;  // [pairs]
  std::span<double> sine_;    // [pairs]
};

/// An empty store. Errors: a count of the shape, d_model, max_tokens, at or a parameter of rotary out of range; rotary.applied;
/// errc::capacity where there is not enough memory.
[[nodiscard]] inline result<hidden_state_store> try_make_hidden_state_store(const model_shape& shape,
                                                                            const hidden_state_options& options) {
  const auto bytes = hidden_state_store::try_bytes(shape, options);
  if (!bytes) return bytes.error();
  hidden_state_store made(shape, options);
  made.memory_ = detail::arena(*bytes);
  if (made.memory_.measuring()) {
    return detail::make_error(errc::capacity, "max_tokens",
                              fmt::format("no memory for {} bytes: max_tokens = {}", *bytes, options.max_tokens));
  }
  made.lay_out();
  std::fill(made.search_.begin(), made.search_.end(), 0.0F);  // what pads vectors and heads
  std::fill(made.held_.begin(), made.held_.end(), std::uint16_t{0xFFFF});
  if (options.rotary) made.fill_angles_of(*options.rotary, options.at);
  return made;
}

#if KVKEEP_EXCEPTIONS
/// try_make_hidden_state_store that throws its error.
[[nodiscard]] inline hidden_state_store make_hidden_state_store(const model_shape& shape,
                                                                const hidden_state_options& options) {
  return detail::unwrap(try_make_hidden_state_store(shape, options));
}
#endif

KVKEEP_NAMESPACE_END

#endif
