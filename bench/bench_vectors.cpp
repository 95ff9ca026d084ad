// bench_vectors: writes the vectors that represent a stream's units, and queries that look them up, as a model makes them.
//
//   bench_vectors OUT MODEL TOKENS TEXT...
//
// The model, a directory in Hugging Face's form, reads the texts one after the other, TOKENS in all at the most, in pieces of
// 32768 tokens, each of which begins with an empty cache: what is kept of a piece are the vectors of its units of 128 tokens,
// the mean of 4 keys before RoPE, and the query of every 512th token, turned to the distance of what lies behind the window.
// The cache is inf_llm's with 4 sinks and a window of 192 tokens, of which the bundled model knows what to make.
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "kvkeep/kvkeep.hpp"
#include "text.hpp"
#include "unit_vectors.hpp"

namespace kvkeep_bench {
namespace {

using kvkeep_eval::matrix;
using kvkeep_eval::token;

constexpr std::size_t piece = 32768;  // tokens
constexpr std::size_t chunk = 512;    // tokens of a step, and from one query to the next
constexpr std::size_t unit = 128;     // tokens
constexpr std::size_t sinks = 4;
constexpr std::size_t window = 192;

/// Vectors by layer, as they come; a file has them one layer after the other.
class recorder {
 public:
  explicit recorder(const kvkeep_eval::llama& model)
      : model_(model),
        shape_{model.config().layers, model.config().query_heads, model.config().kv_heads, model.config().head_dim},
        vectors_(shape_.layers) {
    all_.layers = shape_.layers;
    all_.heads = shape_.query_heads;
    all_.kv_heads = shape_.kv_heads;
    all_.head_dim = shape_.head_dim;
  }

  void read(std::span<const token> tokens) {
    const kvkeep::rope encoding = model_.config().positions;
    const auto frequencies = kvkeep::detail::unwrap(kvkeep::try_rope_frequencies(encoding, shape_.head_dim, 0));
    auto cache = kvkeep::make_cache(
        shape_,
        kvkeep::inf_llm{
            .sinks = sinks, .window = window, .block_size = unit, .count = 2, .every = chunk, .max_tokens = piece},
        {.positions = encoding});
    const std::size_t before = all_.units;
    std::size_t units = 0;
    for (std::size_t at = 0; at < tokens.size(); at += chunk) {
      const std::size_t n = std::min(chunk, tokens.size() - at);
      const bool asks = units > 2;
      auto step = cache.begin(n);
      const auto attend = [&](std::size_t layer, const matrix& q, const matrix& k, const matrix& v, matrix& out) {
        using input = kvkeep::rows_view<const float>;
        step.attend(layer, input(q.data(), n, shape_.query_heads, shape_.head_dim),
                    input(k.data(), n, shape_.kv_heads, shape_.head_dim),
                    input(v.data(), n, shape_.kv_heads, shape_.head_dim),
                    kvkeep::rows_view<float>(out.data(), n, shape_.query_heads, shape_.head_dim));
        for (std::size_t head = 0; asks && head < shape_.query_heads; ++head) {
          const std::span<const float> row(q.data() + head * shape_.head_dim, shape_.head_dim);
          for (const double x : kvkeep::detail::turned_row(encoding, frequencies, window - 1, row)) {
            all_.asked.push_back(static_cast<float>(x));
          }
        }
      };
      static_cast<void>(model_.hidden_states(tokens.subspan(at, n), attend));
      step.commit();
      if (asks) all_.when.push_back(before + units);
      for (; units < kvkeep::unit_geometry{sinks, window, unit}.complete(at + n); ++units) record(cache, units);
    }
    all_.units += units;
  }

  [[nodiscard]] unit_vectors take() {
    for (const std::vector<float>& layer : vectors_) {
      all_.vectors.insert(all_.vectors.end(), layer.begin(), layer.end());
    }
    all_.queries = all_.when.size();
    return std::move(all_);
  }

 private:
  template <class Cache>
  void record(const Cache& cache, std::size_t number) {
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      for (std::size_t head = 0; head < shape_.query_heads; ++head) {
        const std::span<const float> row = cache.memory().representative(layer, number, head);
        vectors_[layer].insert(vectors_[layer].end(), row.begin(), row.end());
      }
    }
  }

  const kvkeep_eval::llama& model_;
  kvkeep::model_shape shape_;
  std::vector<std::vector<float>> vectors_;  // by layer, [units][heads][head_dim]
  unit_vectors all_;
};

int run(std::span<char*> arguments) {
  if (arguments.size() < 5) {
    fmt::print(stderr, "bench_vectors OUT MODEL TOKENS TEXT...\n");
    return 1;
  }
  const kvkeep_eval::checkpoint source(arguments[2]);
  const kvkeep_eval::llama model = source.load(1);
  recorder all(model);
  std::size_t left = std::strtoull(arguments[3], nullptr, 10);
  for (const char* const path : arguments.subspan(4)) {
    const std::vector<token> tokens = source.pieces().encode(kvkeep_eval::read_text(path));
    for (std::size_t at = 0; at < tokens.size() && left > 0;) {
      const std::size_t n = std::min({piece, tokens.size() - at, left});
      all.read(std::span(tokens).subspan(at, n));
      at += n;
      left -= n;
    }
  }
  write_unit_vectors(arguments[1], all.take());
  return 0;
}

}  // namespace
}  // namespace kvkeep_bench

int main(int argc, char** argv) {
  try {
    return kvkeep_bench::run({argv, static_cast<std::size_t>(argc)});
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_vectors: {}\n", e.what());
    return 1;
  }
}
