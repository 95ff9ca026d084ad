// bench_mass: how much of a model's attention over a long stream the keys of largest score get.
//
//   bench_mass MODEL TOKENS TEXT...
//
// The model, a directory in Hugging Face's form, reads the texts as one stream of TOKENS tokens, with 4 sinks and a window of
// `window` tokens, and the keys of all layers are kept as they are before RoPE. Each of the last queries then attends to the window
// at true distances and to every key before it at the window's length, as unlimiformer does where it leaves none of them out:
// brute force, in double. What is printed for some k, over all those queries, layers and query heads: the share of that attention
// which goes to the window and the k keys of largest score, and of what goes behind the window, the share that goes to those k.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "kvkeep/kvkeep.hpp"
#include "statistics.hpp"
#include "text.hpp"

namespace kvkeep_bench {
namespace {

using kvkeep_eval::matrix;
using kvkeep_eval::token;

constexpr std::size_t chunk = 512;  // tokens of a step
constexpr std::size_t asked = 64;   // queries
constexpr std::size_t sinks = 4;
constexpr std::size_t window = 192;
constexpr std::array<std::size_t, 6> kept{32, 64, 128, 256, 512, 1024};

/// The rows of a model's layers.
struct recorded {
  kvkeep::model_shape shape;
  std::vector<std::vector<float>> keys;     // [layers][tokens][kv_heads][head_dim], raw
  std::vector<std::vector<float>> queries;  // [layers][asked][query_heads][head_dim], raw: of the last tokens
};

recorded read(const kvkeep_eval::llama& model, std::span<const token> tokens) {
  const kvkeep::model_shape shape{model.config().layers, model.config().query_heads, model.config().kv_heads,
                                  model.config().head_dim};
  recorded all{shape, std::vector<std::vector<float>>(shape.layers), std::vector<std::vector<float>>(shape.layers)};
  auto cache = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = sinks, .window = window},
                                  {.positions = model.config().positions});
  for (std::size_t at = 0; at < tokens.size(); at += chunk) {
    const std::size_t n = std::min(chunk, tokens.size() - at);
    auto step = cache.begin(n);
    const auto attend = [&](std::size_t layer, const matrix& q, const matrix& k, const matrix& v, matrix& out) {
      using input = kvkeep::rows_view<const float>;
      step.attend(layer, input(q.data(), n, shape.query_heads, shape.head_dim),
                  input(k.data(), n, shape.kv_heads, shape.head_dim),
                  input(v.data(), n, shape.kv_heads, shape.head_dim),
                  kvkeep::rows_view<float>(out.data(), n, shape.query_heads, shape.head_dim));
      all.keys[layer].insert(all.keys[layer].end(), k.data(), k.data() + n * shape.kv_heads * shape.head_dim);
      const std::size_t row = shape.query_heads * shape.head_dim;
      const std::size_t first = tokens.size() - asked;
      for (std::size_t t = first > at ? std::min(first - at, n) : 0; t < n; ++t) {
        all.queries[layer].insert(all.queries[layer].end(), q.data() + t * row, q.data() + (t + 1) * row);
      }
    };
    static_cast<void>(model.hidden_states(tokens.subspan(at, n), attend));
    step.commit();
  }
  return all;
}

/// The query turned to a distance, divided by the root of head_dim.
std::vector<double> turned(const kvkeep::rope& encoding, const kvkeep::rope_frequencies& frequencies, std::size_t to,
                           std::span<const float> query) {
  std::vector<double> out = kvkeep::detail::turned_row(encoding, frequencies, static_cast<kvkeep::position>(to), query);
  for (double& x : out) x /= std::sqrt(static_cast<double>(query.size()));
  return out;
}

void print_shares(const recorded& all, const kvkeep::rope& encoding, std::size_t tokens) {
  const kvkeep::model_shape& shape = all.shape;
  const auto frequencies = kvkeep::detail::unwrap(kvkeep::try_rope_frequencies(encoding, shape.head_dim, 0));
  std::array<std::vector<double>, kept.size()> of_all;
  std::array<std::vector<double>, kept.size()> of_rest;
  std::vector<double> scores;
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    for (std::size_t i = 0; i < asked; ++i) {
      const std::size_t t = tokens - asked + i;
      for (std::size_t head = 0; head < shape.query_heads; ++head) {
        const std::span<const float> query(&all.queries[layer][(i * shape.query_heads + head) * shape.head_dim],
                                           shape.head_dim);
        const auto score = [&](std::span<const double> q, std::size_t j) {
          const float* const key = &all.keys[layer][(j * shape.kv_heads + head / shape.group()) * shape.head_dim];
          return std::inner_product(q.begin(), q.end(), key, 0.0);
        };
        double near = 0.0;
        for (std::size_t far = 0; far < window; ++far) {
          near += std::exp(score(turned(encoding, frequencies, far, query), t - far));
        }
        const std::vector<double> behind = turned(encoding, frequencies, window, query);
        scores.clear();
        for (std::size_t j = 0; j + window <= t; ++j) scores.push_back(std::exp(score(behind, j)));
        const double rest = std::accumulate(scores.begin(), scores.end(), 0.0);
        std::partial_sort(scores.begin(), scores.begin() + kept.back(), scores.end(), std::greater<>());
        for (std::size_t k = 0; k < kept.size(); ++k) {
          const double best =
              std::accumulate(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(kept[k]), 0.0);
          of_all[k].push_back((near + best) / (near + rest));
          of_rest[k].push_back(best / rest);
        }
      }
    }
  }
  const auto mean = [](const std::vector<double>& x) {
    return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
  };
  fmt::print("{} tokens; {} queries, layers and heads\n", tokens, of_all[0].size());
  fmt::print("{:>6}  {:>22}  {:>22}\n", "k", "of all: mean, tenth", "behind: mean, tenth");
  for (std::size_t k = 0; k < kept.size(); ++k) {
    fmt::print("{:>6}  {:>13.4f}  {:>7.4f}  {:>13.4f}  {:>7.4f}\n", kept[k], mean(of_all[k]), quantile(of_all[k], 0.1),
               mean(of_rest[k]), quantile(of_rest[k], 0.1));
  }
}

int run(std::span<char*> arguments) {
  if (arguments.size() < 4) {
    fmt::print(stderr, "bench_mass MODEL TOKENS TEXT...\n");
    return 1;
  }
  const kvkeep_eval::checkpoint source(arguments[1]);
  const kvkeep_eval::llama model = source.load(1);
  const std::size_t wanted = std::strtoull(arguments[2], nullptr, 10);
  std::vector<token> tokens;
  for (const char* const path : arguments.subspan(3)) {
    const std::vector<token> more = source.pieces().encode(kvkeep_eval::read_text(path));
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  const std::size_t least = window + asked + kept.back();
  if (wanted < least || wanted > tokens.size()) {
    fmt::print(stderr, "bench_mass: TOKENS = {}; allowed: {} .. {}, all of the texts\n", wanted, least, tokens.size());
    return 1;
  }
  tokens.resize(wanted);
  print_shares(read(model, tokens), model.config().positions, tokens.size());
  return 0;
}

}  // namespace
}  // namespace kvkeep_bench

int main(int argc, char** argv) {
  try {
    return kvkeep_bench::run({argv, static_cast<std::size_t>(argc)});
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_mass: {}\n", e.what());
    return 1;
  }
}
