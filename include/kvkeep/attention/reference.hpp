// reference_attention: attention written out in double precision: the oracle of every test, and the text to read.
//
// Naive on purpose: every score is formed, O(queries * keys) memory. The kernel that works is in attend.hpp.
#ifndef KVKEEP_ATTENTION_REFERENCE_HPP
#define KVKEEP_ATTENTION_REFERENCE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "kvkeep/core/tensor.hpp"
#include "kvkeep/position/rope_frequencies.hpp"
#include "kvkeep/position/rotate.hpp"

KVKEEP_NAMESPACE_BEGIN

/// How reference_attention scores.
struct reference_options {
  position_encoding positions = no_positions{};
  std::size_t length = 0;             ///< for RoPE scalings that depend on it, where rope::length is 0
  double scale = 0.0;                 ///< on q . k; 0: 1 / sqrt(head_dim)
  double softcap = 0.0;               ///< 0: none
  std::vector<double> sink_logits{};  ///< [query_heads] or empty
  std::size_t window = 0;             ///< newest queries whose weights are wanted: window_rows
};

/// The output and the by-products that policies ask for.
struct reference_attention_result {
  std::vector<double> output;       ///< [queries, query_heads, head_dim]
  std::vector<double> mass;         ///< softmax weights summed over queries, [query_heads, keys]
  std::vector<double> last_row;     ///< the weights of the last query, [query_heads, keys]
  std::vector<double> window_rows;  ///< the weights of the newest `window` queries, [query_heads, window, keys]
  std::vector<double> log_sum_exp;  ///< ln of the sum of e^score, [queries, query_heads]
};

namespace detail {

/// Turns a row by `at` positions in double, attention factor included: [head_dim].
[[nodiscard]] inline std::vector<double> turned_row(const rope& r, const rope_frequencies& f, position at,
                                                    std::span<const float> row) {
  std::vector<double> cosine(f.inverse.size());
  std::vector<double> sine(f.inverse.size());
  std::vector<double> out(row.size());
  fill_angles(at, f.inverse, cosine, sine);
  rotate_row(r.layout, cosine, sine, f.attention_factor, row, out.data());
  return out;
}

}  // namespace detail

namespace detail {

template <class T>
[[nodiscard]] result<void> check_reference_rows(std::string_view name, const rows_view<T>& rows) {
  if (rows.tokens() > 0 && rows.data() == nullptr)
    return bad_argument(fmt::format("{}.data", name), "null", "its rows");
  if (rows.token_stride() >= rows.heads() * rows.head_dim()) return {};
  return bad_argument(fmt::format("{}.token_stride", name), rows.token_stride(),
                      fmt::format(">= heads * head_dim = {}", rows.heads() * rows.head_dim()));
}

[[nodiscard]] inline result<void> check_reference_options(const reference_options& options, std::size_t queries,
                                                          std::size_t heads) {
  if (!std::isfinite(options.scale) || options.scale < 0.0) {
    return bad_argument("scale", options.scale, "finite and > 0, or 0 for 1 / sqrt(head_dim)");
  }
  if (!std::isfinite(options.softcap) || options.softcap < 0.0) {
    return bad_argument("softcap", options.softcap, "finite and > 0, or 0 for none");
  }
  if (!options.sink_logits.empty() && options.sink_logits.size() != heads) {
    return bad_argument("sink_logits", fmt::format("{} values", options.sink_logits.size()),
                        fmt::format("none or query_heads = {}", heads));
  }
  for (const double x : options.sink_logits) {
    if (!std::isfinite(x)) return bad_argument("sink_logits", x, "finite");
  }
  if (options.window > queries) {
    return bad_argument("window", options.window, fmt::format("0 .. {}, the queries there are", queries));
  }
  return {};
}

}  // namespace detail

/// Attention of q [queries, query_heads, head_dim] over k and v [keys, kv_heads, head_dim], all before RoPE.
/// `distance(query, key)` gives a std::optional<position>: how far away that key seems, or nothing where the query does
/// not read it. A query that reads no key gives NaN. Errors: shapes that do not fit, parameters of the encoding.
template <class Distance>
[[nodiscard]] result<reference_attention_result> try_reference_attention(rows_view<const float> q,
                                                                         rows_view<const float> k,
                                                                         rows_view<const float> v,
                                                                         const reference_options& options,
                                                                         const Distance& distance) {
  const std::size_t heads = q.heads();
  const std::size_t dim = q.head_dim();
  const std::size_t keys = k.tokens();
  const model_shape shape{1, heads, k.heads(), dim};
  if (auto ok = shape.check(); !ok) return ok.error();
  if (k.head_dim() != dim) return detail::bad_argument("k.head_dim", k.head_dim(), fmt::format("that of q: {}", dim));
  if (v.tokens() != keys || v.heads() != k.heads() || v.head_dim() != dim) {
    return detail::bad_argument("v", fmt::format("[{}, {}, {}]", v.tokens(), v.heads(), v.head_dim()),
                                fmt::format("the shape of k: [{}, {}, {}]", keys, k.heads(), dim));
  }
  if (auto ok = detail::check_reference_rows("q", q); !ok) return ok.error();
  if (auto ok = detail::check_reference_rows("k", k); !ok) return ok.error();
  if (auto ok = detail::check_reference_rows("v", v); !ok) return ok.error();
  if (auto ok = detail::check_reference_options(options, q.tokens(), heads); !ok) return ok.error();
  const rope* const rotary = std::get_if<rope>(&options.positions);
  rope_frequencies frequencies;
  if (rotary != nullptr) {
    auto made = try_rope_frequencies(*rotary, dim, options.length);
    if (!made) return made.error();
    frequencies = std::move(*made);
    if (rotary->applied) {
      return detail::make_error(errc::unsupported, "rope.applied", "reference_attention takes rows before RoPE");
    }
  }
  std::vector<float> slopes(heads, 0.0F);
  if (const alibi* const linear = std::get_if<alibi>(&options.positions)) {
    slopes = linear->slopes.empty() ? alibi_slopes(heads) : linear->slopes;
    if (slopes.size() != heads) {
      return detail::bad_argument("alibi.slopes", fmt::format("{} values", slopes.size()), fmt::format("{}", heads));
    }
    for (const float slope : slopes) {
      if (!std::isfinite(slope)) return detail::bad_argument("alibi.slopes", slope, "finite");
    }
  }
  const double scale = options.scale != 0.0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(dim));

  reference_attention_result out;
  out.output.assign(q.tokens() * heads * dim, 0.0);
  out.mass.assign(heads * keys, 0.0);
  out.last_row.assign(heads * keys, 0.0);
  out.window_rows.assign(heads * options.window * keys, 0.0);
  out.log_sum_exp.assign(q.tokens() * heads, 0.0);
  std::vector<double> score(keys);
  for (std::size_t t = 0; t < q.tokens(); ++t) {
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t kv_head = h / shape.group();
      const bool sink = !options.sink_logits.empty();
      double top = sink ? options.sink_logits[h] : -std::numeric_limits<double>::infinity();
      for (std::size_t j = 0; j < keys; ++j) {
        const std::optional<position> away = distance(t, j);
        score[j] = -std::numeric_limits<double>::infinity();
        if (!away) continue;
        // The score is (R(distance) q) . k: only the distance matters, not where the two stand.
        double dot = 0.0;
        if (rotary != nullptr) {
          const auto query = detail::turned_row(*rotary, frequencies, *away, {q.row(t, h), dim});
          const auto key = detail::turned_row(*rotary, frequencies, 0, {k.row(j, kv_head), dim});
          for (std::size_t c = 0; c < dim; ++c) dot += query[c] * key[c];
        } else {
          for (std::size_t c = 0; c < dim; ++c) {
            dot += static_cast<double>(q.row(t, h)[c]) * static_cast<double>(k.row(j, kv_head)[c]);
          }
        }
        score[j] = dot * scale;
        if (options.softcap > 0.0) score[j] = options.softcap * std::tanh(score[j] / options.softcap);
        score[j] -= static_cast<double>(slopes[h]) * static_cast<double>(*away);
        top = (std::max)(top, score[j]);
      }
      double sum = sink ? std::exp(options.sink_logits[h] - top) : 0.0;
      for (std::size_t j = 0; j < keys; ++j) {
        if (distance(t, j)) sum += std::exp(score[j] - top);
      }
      out.log_sum_exp[t * heads + h] = top + std::log(sum);
      for (std::size_t j = 0; j < keys; ++j) {
        if (!distance(t, j)) continue;
        const double weight = std::exp(score[j] - top) / sum;
        out.mass[h * keys + j] += weight;
        if (t + 1 == q.tokens()) out.last_row[h * keys + j] = weight;
        if (t + options.window >= q.tokens()) {
          out.window_rows[(h * options.window + t + options.window - q.tokens()) * keys + j] = weight;
        }
        for (std::size_t c = 0; c < dim; ++c) {
          out.output[(t * heads + h) * dim + c] += weight * static_cast<double>(v.row(j, kv_head)[c]);
        }
      }
      if (sum == 0.0) {
        for (std::size_t c = 0; c < dim; ++c) {
          out.output[(t * heads + h) * dim + c] = std::numeric_limits<double>::quiet_NaN();
        }
      }
    }
  }
  return out;
}

#if KVKEEP_EXCEPTIONS
/// try_reference_attention that throws its error.
template <class Distance>
[[nodiscard]] reference_attention_result reference_attention(rows_view<const float> q, rows_view<const float> k,
                                                             rows_view<const float> v, const reference_options& options,
                                                             const Distance& distance) {
  return detail::unwrap(try_reference_attention(q, k, v, options, distance));
}
#endif

KVKEEP_NAMESPACE_END

#endif
