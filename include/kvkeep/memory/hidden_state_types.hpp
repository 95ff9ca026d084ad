// What a hidden_state_store is given and gives: sizes, a layer's projections, how it is read, what was chosen.
#ifndef KVKEEP_MEMORY_HIDDEN_STATE_TYPES_HPP
#define KVKEEP_MEMORY_HIDDEN_STATE_TYPES_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "kvkeep/core/tensor.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/position/encoding.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Sizes of a hidden_state_store, and the positions its queries are read at.
struct hidden_state_options {
  std::size_t d_model = 0;     ///< floats per hidden state, 1 .. 1048576; no default
  std::size_t max_tokens = 0;  ///< 1 .. 2147483647; no default: memory is taken for all of them
  /// Of the keys; none: cross-attention, and models without RoPE.
  std::optional<rope> rotary{};
  std::size_t at = 0;  ///< tokens that every key seems away with `rotary`, 0 .. 2147483647; else 0
};

/// The key and value projections of one layer: k = W_k h + b_k, v = W_v h + b_v. Refers to the weights and does not own them.
struct hidden_state_projection {
  rows_view<const float> wk{};  ///< [kv_heads * head_dim, 1, d_model]: the output rows of a kv head one after the other
  rows_view<const float> wv{};  ///< the same
  std::span<const float> bk{};  ///< [kv_heads * head_dim], or empty: none
  std::span<const float> bv{};  ///< the same
};

/// Which tokens queries read.
struct hidden_state_read {
  std::size_t k = 0;    ///< tokens of a query head, 1 .. max_tokens; no default; published: the model's window
  bool causal = false;  ///< the queries are those of the newest tokens, in order: none reads a token newer than its own
  /// Newest tokens that a query does not read, counted from its own where causal: those of a window attended elsewhere.
  std::size_t behind = 0;
  double scale = 0.0;  ///< on q . k, > 0 and within the range of a float; 0: 1 / sqrt(head_dim)
};

/// Where attend tells what it chose. Any may be empty: not wanted. The outputs of windows or other stores are joined by merge():
/// a part is softmax_state{log_sum_exp, 1, output} where it read something.
struct hidden_state_choice {
  std::span<std::uint32_t> tokens{};  ///< [queries, query_heads, k]: numbers, best first; `counts` of k are written
  std::span<std::uint32_t> counts{};  ///< [queries, query_heads]: tokens read, k or fewer
  std::span<float> log_sum_exp{};     ///< [queries, query_heads]: ln of the sum of e^score over them; none: -infinity
};

namespace detail {

/// An error where rows are not [tokens, heads, dim].
template <class T>
[[nodiscard]] result<void> check_hidden_rows(std::string_view name, const rows_view<T>& rows, std::size_t tokens,
                                             std::size_t heads, std::size_t dim) {
  if (rows.tokens() != tokens || rows.heads() != heads || rows.head_dim() != dim) {
    return bad_argument(name, fmt::format("[{}, {}, {}]", rows.tokens(), rows.heads(), rows.head_dim()),
                        fmt::format("[{}, {}, {}]", tokens, heads, dim));
  }
  if (rows.token_stride() < heads * dim) {
    return bad_argument(fmt::format("{}.token_stride", name), rows.token_stride(), fmt::format(">= {}", heads * dim));
  }
  if (tokens > 0 && rows.data() == nullptr) {
    return bad_argument(fmt::format("{}.data", name), "null", "a pointer to its rows");
  }
  return {};
}

[[nodiscard]] inline result<void> check_hidden_projection(const hidden_state_projection& layer,
                                                          const model_shape& shape, std::size_t d_model) {
  const std::size_t rows = shape.kv_heads * shape.head_dim;
  if (auto ok = check_hidden_rows("wk", layer.wk, rows, 1, d_model); !ok) return ok;
  if (auto ok = check_hidden_rows("wv", layer.wv, rows, 1, d_model); !ok) return ok;
  const auto check_bias = [&](std::string_view name, std::span<const float> bias) -> result<void> {
    if (bias.empty() || bias.size() == rows) return {};
    return bad_argument(name, fmt::format("{} values", bias.size()),
                        fmt::format("none or kv_heads * head_dim = {}", rows));
  };
  if (auto ok = check_bias("bk", layer.bk); !ok) return ok;
  return check_bias("bv", layer.bv);
}

[[nodiscard]] inline result<void> check_hidden_read(const hidden_state_read& read, std::size_t max_tokens,
                                                    std::size_t queries, std::size_t size) {
  if (read.k < 1 || read.k > max_tokens) {
    return bad_argument("k", read.k, fmt::format("1 .. max_tokens = {}", max_tokens));
  }
  const bool positive = read.scale >= static_cast<double>((std::numeric_limits<float>::min)()) &&
                        read.scale <= static_cast<double>((std::numeric_limits<float>::max)());
  if (!positive && read.scale != 0.0) {
    return bad_argument("scale", read.scale, "positive and within a float's range, or 0 for 1 / sqrt(head_dim)");
  }
  if (read.causal && queries > size) {
    return bad_argument("q.tokens", queries, fmt::format("0 .. size = {}, where causal", size));
  }
  return {};
}

[[nodiscard]] inline result<void> check_hidden_choice(const hidden_state_choice& chosen, std::size_t rows,
                                                      std::size_t k) {
  const auto check_room = [](std::string_view name, std::size_t size, std::size_t wanted) -> result<void> {
    if (size == 0 || size >= wanted) return {};
    return bad_argument(name, fmt::format("{} elements", size), fmt::format("none or >= {} elements", wanted));
  };
  if (auto ok = check_room("chosen.tokens", chosen.tokens.size(), rows * k); !ok) return ok;
  if (auto ok = check_room("chosen.counts", chosen.counts.size(), rows); !ok) return ok;
  return check_room("chosen.log_sum_exp", chosen.log_sum_exp.size(), rows);
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
