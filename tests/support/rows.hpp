// Reproducible random rows for tests: the rows of a token depend on nothing but its stream position and a salt.
#ifndef KVKEEP_TESTS_SUPPORT_ROWS_HPP
#define KVKEEP_TESTS_SUPPORT_ROWS_HPP

#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include "kvkeep/kvkeep.hpp"

namespace kvkeep_test {

/// splitmix64, a well mixed number from any other.
inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

/// A small random generator with a state one can print.
class dice {
 public:
  explicit dice(std::uint64_t seed) : state_(mix(seed)) {}
  std::uint64_t next() { return state_ = mix(state_); }
  /// Uniform in first .. last.
  std::size_t between(std::size_t first, std::size_t last) {
    return first + static_cast<std::size_t>(next() % (last - first + 1));
  }
  bool chance(double p) { return static_cast<double>(next() >> 11) * 0x1.0p-53 < p; }
  /// Roughly normal: the sum of four uniforms, variance 1.
  float normal() {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>(next() >> 11) * 0x1.0p-53 - 0.5;
    return static_cast<float>(sum * std::sqrt(3.0));
  }

 private:
  std::uint64_t state_;
};

/// The rows of some tokens of one layer.
struct layer_rows {
  std::vector<float> q;    // [tokens, query_heads, head_dim]
  std::vector<float> k;    // [tokens, kv_heads, head_dim]
  std::vector<float> v;    // [tokens, kv_heads, head_dim]
  std::vector<float> out;  // [tokens, query_heads, head_dim]
};

/// Rows of tokens first .. first + count - 1 of a layer. Another salt gives other rows for the same positions.
inline layer_rows rows_of(const kvkeep::model_shape& shape, std::size_t layer, kvkeep::position first,
                          std::size_t count, std::uint64_t salt = 0) {
  layer_rows rows;
  for (std::size_t t = 0; t < count; ++t) {
    dice random(mix(static_cast<std::uint64_t>(first) + t) ^ mix(layer * 7919 + salt * 104729 + 1));
    for (std::size_t i = 0; i < shape.query_heads * shape.head_dim; ++i) rows.q.push_back(random.normal());
    for (std::size_t i = 0; i < shape.kv_heads * shape.head_dim; ++i) rows.k.push_back(random.normal());
    for (std::size_t i = 0; i < shape.kv_heads * shape.head_dim; ++i) rows.v.push_back(random.normal());
  }
  rows.out.assign(rows.q.size(), -77.0F);
  return rows;
}

inline kvkeep::rows_view<const float> view(const std::vector<float>& data, std::size_t tokens, std::size_t heads,
                                           std::size_t dim) {
  return {data.data(), tokens, heads, dim};
}
inline kvkeep::rows_view<float> view(std::vector<float>& data, std::size_t tokens, std::size_t heads, std::size_t dim) {
  return {data.data(), tokens, heads, dim};
}

/// Attends all layers of an open step; returns the outputs, [layers][tokens, query_heads, head_dim].
template <class Step>
std::vector<std::vector<float>> attend_all(Step& step, const kvkeep::model_shape& shape, kvkeep::position first,
                                           std::uint64_t salt = 0) {
  std::vector<std::vector<float>> outputs;
  const std::size_t n = step.tokens();
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    layer_rows rows = rows_of(shape, layer, first, n, salt);
    step.attend(layer, view(std::as_const(rows.q), n, shape.query_heads, shape.head_dim),
                view(std::as_const(rows.k), n, shape.kv_heads, shape.head_dim),
                view(std::as_const(rows.v), n, shape.kv_heads, shape.head_dim),
                view(rows.out, n, shape.query_heads, shape.head_dim));
    outputs.push_back(std::move(rows.out));
  }
  return outputs;
}

/// Feeds n tokens in one committed step; returns the outputs.
template <class Cache>
std::vector<std::vector<float>> feed(Cache& cache, const kvkeep::model_shape& shape, std::size_t n) {
  const kvkeep::position first = cache.next_position();
  auto step = cache.begin(n);
  auto out = attend_all(step, shape, first);
  step.commit();
  return out;
}

/// A made-up surprisal of a token: one of few values, so that tokens tie.
inline float surprisal_of(kvkeep::position at, std::uint64_t salt) {
  return static_cast<float>(mix(static_cast<std::uint64_t>(at) ^ mix(salt)) % 7);
}

/// The key and value rows that a cache stores, by position, of one layer and kv head.
template <class Cache>
std::map<kvkeep::position, std::vector<float>> stored(const Cache& cache, std::size_t layer, std::size_t kv_head) {
  std::map<kvkeep::position, std::vector<float>> all;
  const std::size_t dim = cache.shape().head_dim;
  for (const kvkeep::position p : cache.held(cache.unit_of(layer, kv_head))) {
    std::vector<float> row(2 * dim);
    cache.read(layer, kv_head, p, std::span<float>(row).first(dim), std::span<float>(row).last(dim));
    all.emplace(p, std::move(row));
  }
  return all;
}

/// Largest absolute difference of two sequences of the same length; infinity where lengths differ or one is not finite.
template <class A, class B>
double max_difference(const A& a, const B& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = std::isnan(d) ? static_cast<double>(INFINITY) : d;
  }
  return worst;
}

}  // namespace kvkeep_test

#endif
