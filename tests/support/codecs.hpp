// The codecs that tests run caches with, and what a row becomes in a cache that stores it in them.
#ifndef KVKEEP_TESTS_SUPPORT_CODECS_HPP
#define KVKEEP_TESTS_SUPPORT_CODECS_HPP

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "rows.hpp"

namespace kvkeep_test {

/// How a cache stores keys and values.
template <class KeyCodec, class ValueCodec>
struct stored_as {
  using key = KeyCodec;
  using value = ValueCodec;
  /// A head_dim that both codecs allow.
  static constexpr std::size_t head_dim = KeyCodec::integer || ValueCodec::integer ? 32 : 8;
  /// What outputs may differ by from the reference on the decoded rows.
  static constexpr double tolerance = 1e-5;
};

/// Codecs that every policy is tested with.
using all_codecs = testing::Types<stored_as<kvkeep::f32, kvkeep::f32>>;
/// Codecs that some policies are tested with.
using more_codecs = testing::Types<stored_as<kvkeep::f16, kvkeep::f16>, stored_as<kvkeep::bf16, kvkeep::f32>,
                                   stored_as<kvkeep::int8, kvkeep::int4>, stored_as<kvkeep::int4, kvkeep::int8>>;

using kvkeep::position;

/// The bytes of a row in a codec.
template <class Codec>
std::vector<std::byte> encoded_key(std::span<const float> row) {
  std::vector<std::byte> block(Codec::key_block_bytes(row.size()));
  std::vector<std::byte> bytes(Codec::row_bytes(row.size()));
  Codec::write_key(block.data(), 6, row);
  Codec::export_key(block.data(), 6, row.size(), bytes.data());
  return bytes;
}
template <class Codec>
std::vector<std::byte> encoded_value(std::span<const float> row) {
  std::vector<std::byte> block(Codec::value_block_bytes(row.size()));
  std::vector<std::byte> bytes(Codec::row_bytes(row.size()));
  Codec::write_value(block.data(), 9, row);
  Codec::export_value(block.data(), 9, row.size(), bytes.data());
  return bytes;
}

/// The row in place becomes what the codec makes of it.
template <class Codec>
void code(std::span<float> row) {
  std::vector<std::byte> block(Codec::value_block_bytes(row.size()));
  Codec::write_value(block.data(), 0, row);
  Codec::read_value(block.data(), 0, row);
}

/// Turns a row by the angles of a position, as a cache does.
inline void turn(const kvkeep::rope& r, kvkeep::position at, std::span<float> row) {
  const auto frequencies = kvkeep::try_rope_frequencies(r, row.size(), r.length);
  const std::size_t pairs = frequencies->inverse.size();
  std::vector<double> cosine(pairs);
  std::vector<double> sine(pairs);
  kvkeep::fill_angles(at, frequencies->inverse, cosine, sine);
  kvkeep::rotate_row(r.layout, cosine, sine, 1.0, row, row.data());
}

/// What attention is computed from where a cache with this encoding stores the token at `at` in Codecs: a key before RoPE
/// whose rotation is the decoded row, and the decoded value. `raw`: whether the key is stored before RoPE.
template <class Codecs>
void as_attended(const kvkeep::position_encoding& positions, bool raw, kvkeep::position at, std::span<float> key,
                 std::span<float> value) {
  const kvkeep::rope* const r = std::get_if<kvkeep::rope>(&positions);
  const bool turned = r != nullptr && !raw;
  if (turned) turn(*r, at, key);
  code<typename Codecs::key>(key);
  if (turned) turn(*r, -at, key);
  code<typename Codecs::value>(value);
}

/// A query as it is rounded for keys that are stored as integers: 32 components as whole numbers of at most 127, and a scale.
inline void round_as_integers(std::span<float> query) {
  for (std::size_t g = 0; g < query.size(); g += 32) {
    float most = 0.0F;
    for (std::size_t c = g; c < g + 32; ++c) most = std::max(most, std::fabs(query[c]));
    for (std::size_t c = g; c < g + 32 && most > 0.0F; ++c) {
      query[c] = std::nearbyint(query[c] * (127.0F / most)) * (most / 127.0F);
    }
  }
}

/// What one query reads of a cache.
struct key_read {
  position at = 0;        // where the key stands
  position distance = 0;  // and how far away it seems
  bool raw = false;       // whether it is stored before RoPE
};

/// Attention of one query over keys and values that a cache stores in Codecs; q [query_heads, head_dim], k and v
/// [keys, kv_heads, head_dim] as they were appended. `turned`: whether keys are turned as they are read, in floats; others
/// that are integers meet a query that is rounded when it has been turned to them. Only plain RoPE, no attention factor.
template <class Codecs>
kvkeep::reference_attention_result attention_as_stored(const kvkeep::model_shape& shape,
                                                       const kvkeep::reference_options& options, bool turned,
                                                       std::span<const float> q, std::span<const key_read> keys,
                                                       std::vector<float> k, std::vector<float> v) {
  const std::size_t dim = shape.head_dim;
  const std::size_t row = shape.kv_heads * dim;
  const auto rows = [&](std::vector<float>& all, std::size_t i) { return std::span<float>(all).subspan(i * dim, dim); };
  const kvkeep::rope* const r = std::get_if<kvkeep::rope>(&options.positions);
  if (!Codecs::key::integer || turned) {
    for (std::size_t i = 0; i < keys.size() * shape.kv_heads; ++i) {
      const key_read& read = keys[i / shape.kv_heads];
      as_attended<Codecs>(options.positions, read.raw, read.at, rows(k, i), rows(v, i));
    }
    return kvkeep::reference_attention({q.data(), 1, shape.query_heads, dim},
                                       view(std::as_const(k), keys.size(), shape.kv_heads, dim),
                                       view(std::as_const(v), keys.size(), shape.kv_heads, dim), options,
                                       [&](std::size_t, std::size_t j) { return std::optional(keys[j].distance); });
  }
  // The keys that one turned query meets are attended by themselves, and the results joined by their sums.
  const double scale = options.scale != 0.0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(dim));
  kvkeep::reference_options rest = options;  // RoPE and scale are on the query, which is rounded with them
  rest.scale = 1.0;
  if (r != nullptr) rest.positions = kvkeep::no_positions{};
  std::map<position, std::vector<std::size_t>> by_angle;
  for (std::size_t j = 0; j < keys.size(); ++j) {
    by_angle[r == nullptr ? 0 : keys[j].distance + (keys[j].raw ? 0 : keys[j].at)].push_back(j);
  }
  kvkeep::reference_attention_result out;
  out.output.assign(shape.query_heads * dim, 0.0);
  out.mass.assign(shape.query_heads * keys.size(), 0.0);
  out.log_sum_exp.assign(shape.query_heads, -INFINITY);
  for (const auto& group : by_angle) {
    const position angle = group.first;
    const std::vector<std::size_t>& which = group.second;
    std::vector<float> query(q.begin(), q.end());
    for (std::size_t h = 0; h < shape.query_heads; ++h) {
      if (r != nullptr) turn(*r, angle, rows(query, h));
      for (float& x : rows(query, h)) x *= static_cast<float>(scale);
      round_as_integers(rows(query, h));
    }
    std::vector<float> some_k;
    std::vector<float> some_v;
    for (const std::size_t j : which) {
      for (std::size_t h = 0; h < shape.kv_heads; ++h) {
        const std::size_t i = j * shape.kv_heads + h;
        if (r != nullptr && !keys[j].raw) turn(*r, keys[j].at, rows(k, i));
        code<typename Codecs::key>(rows(k, i));
        code<typename Codecs::value>(rows(v, i));
      }
      some_k.insert(some_k.end(), k.begin() + static_cast<std::ptrdiff_t>(j * row),
                    k.begin() + static_cast<std::ptrdiff_t>((j + 1) * row));
      some_v.insert(some_v.end(), v.begin() + static_cast<std::ptrdiff_t>(j * row),
                    v.begin() + static_cast<std::ptrdiff_t>((j + 1) * row));
    }
    const auto part =
        kvkeep::reference_attention(view(std::as_const(query), 1, shape.query_heads, dim),
                                    view(std::as_const(some_k), which.size(), shape.kv_heads, dim),
                                    view(std::as_const(some_v), which.size(), shape.kv_heads, dim), rest,
                                    [&](std::size_t, std::size_t j) { return std::optional(keys[which[j]].distance); });
    rest.sink_logits.clear();  // counted once
    for (std::size_t h = 0; h < shape.query_heads; ++h) {
      const double before = out.log_sum_exp[h];
      const double top = std::max(before, part.log_sum_exp[h]);
      const double sum = top + std::log(std::exp(before - top) + std::exp(part.log_sum_exp[h] - top));
      const double old_share = std::exp(before - sum);
      const double new_share = std::exp(part.log_sum_exp[h] - sum);
      for (std::size_t c = h * dim; c < (h + 1) * dim; ++c) {
        out.output[c] = out.output[c] * old_share + part.output[c] * new_share;
      }
      for (std::size_t j = 0; j < keys.size(); ++j) out.mass[h * keys.size() + j] *= old_share;
      for (std::size_t i = 0; i < which.size(); ++i) {
        out.mass[h * keys.size() + which[i]] = part.mass[h * which.size() + i] * new_share;
      }
      out.log_sum_exp[h] = sum;
    }
  }
  out.last_row = out.mass;
  return out;
}

}  // namespace kvkeep_test

#endif
