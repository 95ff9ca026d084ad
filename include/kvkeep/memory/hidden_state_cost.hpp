// hidden_state_cost: what a hidden_state_store of a model takes and costs, beside a cache of keys and values.
//
//   // Llama-3-8B: grouped queries make it lose.
//   const auto cost = kvkeep::hidden_state_cost_of({.layers = 32, .query_heads = 32, .kv_heads = 8, .head_dim = 128},
//                                                  {.d_model = 4096, .tokens = 131072, .k = 2048});
//   cost.times_smaller();                               // 0.5: twice the bytes
//
// Arithmetic alone: no allocation, any thread.
//
// Source: Bertsch et al., NeurIPS 2023, arXiv 2305.01625, section 2 (attention reformulation).
#ifndef KVKEEP_MEMORY_HIDDEN_STATE_COST_HPP
#define KVKEEP_MEMORY_HIDDEN_STATE_COST_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// How many stores a model needs.
enum class hidden_state_stores : std::uint8_t {
  one_a_layer,  ///< decoder-only: the inputs of each layer's projections, after its input norm
  one_for_all,  ///< encoder-decoder: the encoder's output, which the cross-attention of all decoder layers reads
};

/// What the costs depend on besides the model_shape, whose layers are those that attend (the decoder's).
struct hidden_state_cost_options {
  std::size_t d_model = 0;  ///< numbers per hidden state, 1 .. 1048576; no default
  std::size_t tokens = 0;   ///< held
  std::size_t k = 0;        ///< tokens that a query head retrieves; more than `tokens` counts as `tokens`
  hidden_state_stores stores = hidden_state_stores::one_a_layer;
  double hidden_bytes = 4.0;  ///< per number of a hidden state, finite and > 0; hidden_state_store has 4
  double kv_bytes = 4.0;      ///< per number of a key or value, finite and > 0
};

/// Bytes of all layers together, and multiply-adds of one query token in one layer. Whole numbers, exact below 2^53.
struct hidden_state_cost {
  double store_bytes = 0;  ///< of hidden states: tokens * d_model a store
  double kv_bytes = 0;     ///< of keys and values: 2 * tokens * kv_heads * head_dim a layer
  double query_macs = 0;   ///< W_k^T q of every query head: query_heads * head_dim * d_model
  double search_macs = 0;  ///< exact search: query_heads * tokens * d_model
  /// As published, a key and a value of every token retrieved: query_heads * k * d_model * 2 head_dim.
  double projection_macs = 0;
  double folded_macs = 0;  ///< in place of that, in hidden_state_store: query_heads * (k + head_dim) * d_model
  double dense_macs = 0;   ///< what attention over all keys and values takes: query_heads * tokens * 2 head_dim

  /// kv_bytes / store_bytes: above 1 the store is the smaller one. With numbers of equal size 2 * kv_heads * head_dim / d_model,
  /// times the layers where one store serves all. Infinite or NaN where no token is held.
  [[nodiscard]] double times_smaller() const noexcept { return kv_bytes / store_bytes; }
};

/// The costs, or the error that says which argument is at fault: a count of the shape, d_model, stores, hidden_bytes, kv_bytes.
[[nodiscard]] inline result<hidden_state_cost> try_hidden_state_cost_of(const model_shape& shape,
                                                                        const hidden_state_cost_options& options) {
  if (auto ok = shape.check(); !ok) return ok.error();
  if (options.d_model < 1 || options.d_model > 1048576) {
    return detail::bad_argument("d_model", options.d_model, "1 .. 1048576");
  }
  if (options.stores != hidden_state_stores::one_a_layer && options.stores != hidden_state_stores::one_for_all) {
    return detail::bad_argument("stores", static_cast<int>(options.stores), "one_a_layer or one_for_all");
  }
  const auto sized = [](double bytes) { return std::isfinite(bytes) && bytes > 0.0; };
  if (!sized(options.hidden_bytes)) return detail::bad_argument("hidden_bytes", options.hidden_bytes, "finite and > 0");
  if (!sized(options.kv_bytes)) return detail::bad_argument("kv_bytes", options.kv_bytes, "finite and > 0");
  const auto layers = static_cast<double>(shape.layers);
  const auto heads = static_cast<double>(shape.query_heads);
  const auto dim = static_cast<double>(shape.head_dim);
  const auto width = static_cast<double>(options.d_model);
  const auto tokens = static_cast<double>(options.tokens);
  const auto k = static_cast<double>(options.k < options.tokens ? options.k : options.tokens);
  hidden_state_cost out;
  out.store_bytes =
      (options.stores == hidden_state_stores::one_a_layer ? layers : 1.0) * tokens * width * options.hidden_bytes;
  out.kv_bytes = layers * 2.0 * tokens * static_cast<double>(shape.kv_heads) * dim * options.kv_bytes;
  out.query_macs = heads * dim * width;
  out.search_macs = heads * tokens * width;
  out.projection_macs = heads * k * width * 2.0 * dim;
  out.folded_macs = heads * (k + dim) * width;
  out.dense_macs = heads * tokens * 2.0 * dim;
  return out;
}

#if KVKEEP_EXCEPTIONS
/// try_hidden_state_cost_of that throws its error.
[[nodiscard]] inline hidden_state_cost hidden_state_cost_of(const model_shape& shape,
                                                            const hidden_state_cost_options& options) {
  return detail::unwrap(try_hidden_state_cost_of(shape, options));
}
#endif

KVKEEP_NAMESPACE_END

#endif
