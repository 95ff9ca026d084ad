// Hidden states in place of keys and values: what is searched, chosen and attended to, against keys and values that are projected
// one by one in double; their cost; windows that encode long inputs; squeezed positions.
#include "kvkeep/memory/hidden_state_store.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../support/allocations.hpp"
#include "kvkeep/attention/reference.hpp"
#include "kvkeep/attention/softmax_state.hpp"
#include "kvkeep/memory/encoding_windows.hpp"
#include "kvkeep/memory/hidden_state_cost.hpp"
#include "kvkeep/position/squeezed_position.hpp"

namespace kvkeep_test {
namespace {

using floats = std::vector<float>;
using numbers = std::vector<std::uint32_t>;
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Numbers of a test: normal ones, or whole ones from -3 to 3, whose scores are exact and often equal.
enum class kind { normal, whole };

struct source {
  explicit source(unsigned seed, kind k = kind::normal) : random(seed), of(k) {}
  float operator()() {
    return of == kind::whole ? static_cast<float>(std::uniform_int_distribution<int>(-3, 3)(random))
                             : std::normal_distribution<float>()(random);
  }
  floats operator()(std::size_t count, float scale = 1.0F) {
    floats out(count);
    for (float& x : out) x = scale * (*this)();
    return out;
  }
  std::mt19937 random;
  kind of;
};

/// One layer's weights, its rows `gap` floats further apart than they must be, NaN between them.
struct layer {
  layer(const kvkeep::model_shape& shape, std::size_t d_model, source& next, bool bias = true, std::size_t gap = 0)
      : rows(shape.kv_heads * shape.head_dim), width(d_model), stride(d_model + gap) {
    const float size = next.of == kind::whole ? 1.0F : 1.0F / std::sqrt(static_cast<float>(d_model));
    for (floats* w : {&wk, &wv}) {
      w->assign(rows * stride, nan);
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < width; ++c) (*w)[r * stride + c] = size * next();
      }
    }
    if (bias) bk = next(rows), bv = next(rows);
  }
  [[nodiscard]] kvkeep::hidden_state_projection view() const {
    return {{wk.data(), rows, 1, width, stride}, {wv.data(), rows, 1, width, stride}, bk, bv};
  }
  /// k or v of a kv head and vector in double, [head_dim].
  [[nodiscard]] std::vector<double> projected(const floats& w, const floats& bias, std::size_t head, std::size_t dim,
                                              const float* h) const {
    std::vector<double> out(dim);
    for (std::size_t c = 0; c < dim; ++c) {
      out[c] = bias.empty() ? 0.0 : static_cast<double>(bias[head * dim + c]);
      for (std::size_t i = 0; i < width; ++i) {
        out[c] += static_cast<double>(w[(head * dim + c) * stride + i]) * static_cast<double>(h[i]);
      }
    }
    return out;
  }
  std::size_t rows, width, stride;
  floats wk, wv, bk, bv;
};

/// What a call of attend gave.
struct outcome {
  floats out;                   // [queries, query_heads, head_dim]
  std::vector<numbers> chosen;  // [queries * query_heads], best first
  floats log_sum_exp;           // [queries, query_heads]
};

outcome attend(kvkeep::hidden_state_store& store, const kvkeep::hidden_state_projection& of, const floats& q,
               const kvkeep::hidden_state_read& read, const kvkeep::executor_ref& executor = {}) {
  const kvkeep::model_shape& shape = store.shape();
  const std::size_t row = shape.query_heads * shape.head_dim;
  const std::size_t queries = q.size() / row;
  outcome got{floats(q.size(), -77.0F), {}, floats(queries * shape.query_heads, -77.0F)};
  numbers tokens(queries * shape.query_heads * read.k, 0xFE2CEU);
  numbers counts(queries * shape.query_heads, 0xFE2CEU);
  store.attend(of, {q.data(), queries, shape.query_heads, shape.head_dim}, read,
               {got.out.data(), queries, shape.query_heads, shape.head_dim}, {tokens, counts, got.log_sum_exp},
               executor);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(i * read.k);
    got.chosen.emplace_back(first, first + static_cast<std::ptrdiff_t>(counts[i]));
    EXPECT_TRUE(std::all_of(first + static_cast<std::ptrdiff_t>(counts[i]), first + static_cast<std::ptrdiff_t>(read.k),
                            [](std::uint32_t t) { return t == 0xFE2CEU; }));
  }
  return got;
}

kvkeep::rows_view<const float> vectors(const floats& data, std::size_t d_model) {
  return {data.data(), data.size() / d_model, 1, d_model};
}
kvkeep::hidden_state_store store_of(const kvkeep::model_shape& shape, const floats& hidden, std::size_t d_model,
                                    std::size_t max_tokens = 0) {
  const std::size_t tokens = hidden.size() / d_model;
  auto store = kvkeep::make_hidden_state_store(shape, {.d_model = d_model, .max_tokens = std::max(max_tokens, tokens)});
  store.append(vectors(hidden, d_model));
  return store;
}

/// Attention of one head over the `k` best of some tokens, all projected, in double; ties: the older.
struct expected {
  std::vector<double> out;
  numbers chosen;
  double log_sum_exp = 0.0;
};
struct readable {
  std::vector<std::vector<double>> keys, values;
  numbers tokens;  // their numbers
};
readable project(const layer& of, const kvkeep::model_shape& shape, std::size_t kv_head, const floats& hidden,
                 const numbers& tokens) {
  readable all{{}, {}, tokens};
  for (const std::uint32_t t : tokens) {
    all.keys.push_back(of.projected(of.wk, of.bk, kv_head, shape.head_dim, hidden.data() + t * of.width));
    all.values.push_back(of.projected(of.wv, of.bv, kv_head, shape.head_dim, hidden.data() + t * of.width));
  }
  return all;
}
expected plain_attention(const readable& all, const float* q, std::size_t k, double scale) {
  std::vector<double> scores;
  for (const auto& key : all.keys) {
    double score = 0.0;
    for (std::size_t c = 0; c < key.size(); ++c) score += static_cast<double>(q[c]) * key[c];
    scores.push_back(score * scale);
  }
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(k, order.size()));
  expected out{std::vector<double>(all.values.front().size()), {}, 0.0};
  double sum = 0.0;
  for (const std::size_t i : order) sum += std::exp(scores[i] - scores[order[0]]);
  for (const std::size_t i : order) {
    out.chosen.push_back(all.tokens[i]);
    for (std::size_t c = 0; c < out.out.size(); ++c) {
      out.out[c] += std::exp(scores[i] - scores[order[0]]) / sum * all.values[i][c];
    }
  }
  out.log_sum_exp = scores[order[0]] + std::log(sum);
  return out;
}

/// `tolerance` is absolute for log_sum_exp, and of outputs larger than 1 relative.
void expect_head(const outcome& got, std::size_t at, const expected& want, double tolerance, const std::string& where) {
  EXPECT_EQ(got.chosen[at], want.chosen) << where;
  EXPECT_NEAR(static_cast<double>(got.log_sum_exp[at]), want.log_sum_exp, tolerance) << where;
  const std::size_t dim = want.out.size();
  for (std::size_t c = 0; c < dim; ++c) {
    ASSERT_NEAR(static_cast<double>(got.out[at * dim + c]), want.out[c], tolerance * (1.0 + std::abs(want.out[c])))
        << where << ", component " << c;
  }
}

numbers first_numbers(std::size_t count) {
  numbers out(count);
  std::iota(out.begin(), out.end(), 0U);
  return out;
}

// ---- the score identity, and what follows from it

TEST(HiddenStateStore, ScoresAreThoseOfProjectedKeys) {
  const kvkeep::model_shape shape{1, 1, 1, 2};
  const floats wk{1, 2, 0, 1};
  const floats wv{1, 0, 0, 1};
  const kvkeep::hidden_state_projection of{{wk.data(), 2, 1, 2}, {wv.data(), 2, 1, 2}};
  const floats q{3, 1};
  // A vector, W_k of it, and q . that.
  struct row {
    floats h;
    floats key;
    float score;
  };
  for (const row& r : {row{{1, -1}, {-1, -1}, -4}, row{{1, 0}, {1, 0}, 3}, row{{0, 1}, {2, 1}, 7}}) {
    auto store = store_of(shape, r.h, 2);
    const outcome got = attend(store, of, q, {.k = 1, .scale = 1.0});
    EXPECT_EQ(got.log_sum_exp[0], r.score);  // of one token: its score
    EXPECT_EQ(got.out, r.h);                 // W_v is the identity
    floats key(2), value(2);
    store.project(of, numbers{0}, {key.data(), 1, 1, 2}, {value.data(), 1, 1, 2});
    EXPECT_EQ(key, r.key);
    EXPECT_EQ(value, r.h);
  }
}

TEST(HiddenStateStore, BiasOfKeysRanksNothing) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  constexpr std::size_t width = 24;
  source next(1);
  layer with(shape, width, next);
  layer without = with;
  without.bk.clear();
  const floats hidden = next(50 * width);
  const floats q = next(shape.query_heads * shape.head_dim);
  auto store = store_of(shape, hidden, width);
  const outcome a = attend(store, with.view(), q, {.k = 7, .scale = 0.5});
  const outcome b = attend(store, without.view(), q, {.k = 7, .scale = 0.5});
  EXPECT_EQ(a.chosen, b.chosen);
  EXPECT_EQ(a.out, b.out);
  for (std::size_t h = 0; h < 4; ++h) {
    double bias = 0.0;
    for (std::size_t c = 0; c < 8; ++c) bias += static_cast<double>(q[h * 8 + c] * with.bk[h / 2 * 8 + c]);
    EXPECT_GT(std::abs(bias), 0.1);
    EXPECT_NEAR(static_cast<double>(a.log_sum_exp[h] - b.log_sum_exp[h]), 0.5 * bias, 1e-5);
  }
}

// k at least n: every token is read, and the result is dense attention over projected keys and values, in both of its forms.
TEST(HiddenStateStore, EqualsDenseAttentionWhereAllAreRead) {
  const kvkeep::model_shape shape{1, 6, 3, 8};
  constexpr std::size_t width = 40;
  constexpr std::size_t tokens = 37;
  source next(2);
  const layer of(shape, width, next);
  const floats hidden = next(tokens * width);
  const floats q = next(3 * shape.query_heads * shape.head_dim);
  auto store = store_of(shape, hidden, width, 64);
  floats keys(tokens * shape.kv_heads * shape.head_dim), values(keys.size());
  store.project(of.view(), first_numbers(tokens), {keys.data(), tokens, 3, 8}, {values.data(), tokens, 3, 8});
  const auto dense = kvkeep::reference_attention(
      {q.data(), 3, 6, 8}, {std::as_const(keys).data(), tokens, 3, 8}, {std::as_const(values).data(), tokens, 3, 8}, {},
      [](std::size_t, std::size_t) { return std::optional<kvkeep::position>(0); });
  for (const std::size_t k : {tokens, tokens + 1, std::size_t{64}}) {
    const outcome got = attend(store, of.view(), q, {.k = k});
    for (std::size_t i = 0; i < got.out.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(got.out[i]), dense.output[i], 1e-5) << i;
    }
    for (std::size_t i = 0; i < got.chosen.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(got.log_sum_exp[i]), dense.log_sum_exp[i], 1e-5);
      numbers sorted = got.chosen[i];
      std::sort(sorted.begin(), sorted.end());
      EXPECT_EQ(sorted, first_numbers(tokens));
    }
  }
}

// What is chosen has the largest attention mass of all sets of k, and bounds the error of the output.
TEST(HiddenStateStore, ChoosesTheMostMass) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  constexpr std::size_t width = 32;
  constexpr std::size_t tokens = 60;
  source next(3);
  const layer of(shape, width, next);
  const floats hidden = next(tokens * width);
  const floats q = next(shape.query_heads * shape.head_dim, 2.0F);
  auto store = store_of(shape, hidden, width);
  const outcome all = attend(store, of.view(), q, {.k = tokens});
  for (const std::size_t k : {std::size_t{1}, std::size_t{5}, std::size_t{20}, std::size_t{59}}) {
    const outcome some = attend(store, of.view(), q, {.k = k});
    for (std::size_t h = 0; h < 4; ++h) {
      const readable projected = project(of, shape, h / 2, hidden, first_numbers(tokens));
      std::vector<double> weights;
      double largest = 0.0;
      for (std::size_t t = 0; t < tokens; ++t) {
        double score = 0.0, length = 0.0;
        for (std::size_t c = 0; c < 8; ++c) {
          score += static_cast<double>(q[h * 8 + c]) * projected.keys[t][c];
          length += projected.values[t][c] * projected.values[t][c];
        }
        weights.push_back(std::exp(score / std::sqrt(8.0) - static_cast<double>(all.log_sum_exp[h])));
        largest = std::max(largest, std::sqrt(length));
      }
      const double mass = std::exp(static_cast<double>(some.log_sum_exp[h] - all.log_sum_exp[h]));
      double of_chosen = 0.0;
      for (const std::uint32_t t : some.chosen[h]) of_chosen += weights[t];
      std::sort(weights.rbegin(), weights.rend());
      EXPECT_NEAR(mass, of_chosen, 1e-5);
      EXPECT_NEAR(mass, std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(k), 0.0), 1e-5);
      double error = 0.0;
      for (std::size_t c = 0; c < 8; ++c) {
        const double d = static_cast<double>(some.out[h * 8 + c] - all.out[h * 8 + c]);
        error += d * d;
      }
      EXPECT_LE(std::sqrt(error), 2.0 * (1.0 - mass) * largest + 1e-5);
      EXPECT_GT(mass, 0.0);
      EXPECT_LT(mass, 1.0);
    }
  }
}

// Even vectors are orthogonal to what head 1 looks for, odd ones to what head 0 looks for.
TEST(HiddenStateStore, ServesHeadsThatWantDifferentTokens) {
  const kvkeep::model_shape shape{1, 2, 2, 2};
  constexpr std::size_t width = 4;
  const floats wk{1, 0, 0, 0, 0, 1, 0, 0, /* head 1 */ 0, 0, 1, 0, 0, 0, 0, 1};
  const kvkeep::hidden_state_projection of{{wk.data(), 4, 1, width}, {wk.data(), 4, 1, width}};
  floats hidden;
  for (int t = 0; t < 10; ++t) {
    const auto size = static_cast<float>(t + 1);
    for (const float x : t % 2 == 0 ? floats{size, 0, 0, 0} : floats{0, 0, 0, size}) hidden.push_back(x);
  }
  auto store = store_of(shape, hidden, width);
  const outcome got = attend(store, of, {1, 0, 0, 1}, {.k = 4});
  EXPECT_EQ(got.chosen[0], (numbers{8, 6, 4, 2}));
  EXPECT_EQ(got.chosen[1], (numbers{9, 7, 5, 3}));
}

// ---- what is chosen

// Whole numbers: scores are exact and often equal, so that every order is known. One store, read by layers of other weights.
TEST(HiddenStateStore, FindsWhatAPlainScanFinds) {
  struct sizes {
    kvkeep::model_shape shape;
    std::size_t width;
  };
  for (const sizes& s :
       {sizes{{1, 1, 1, 1}, 1}, {{1, 2, 2, 8}, 16}, {{1, 6, 2, 3}, 33}, {{1, 5, 1, 4}, 7}, {{1, 8, 8, 4}, 48}}) {
    for (const std::size_t tokens : {std::size_t{1}, std::size_t{2}, std::size_t{17}, std::size_t{301}}) {
      source next(static_cast<unsigned>(s.width + tokens), kind::whole);
      const floats hidden = next(tokens * s.width);
      auto store = store_of(s.shape, hidden, s.width, 301);
      numbers live;
      for (std::size_t t = 0; t < tokens; ++t) {
        if (tokens > 2 && next() > 1.0F) {
          store.erase(t, t + 1);
        } else {
          live.push_back(static_cast<std::uint32_t>(t));
        }
      }
      EXPECT_EQ(store.held(), live.size());
      for (int l = 0; l < 2; ++l) {
        const layer of(s.shape, s.width, next, l == 0, static_cast<std::size_t>(l) * 5);
        const floats q = next(2 * s.shape.query_heads * s.shape.head_dim);
        for (const std::size_t k : {std::size_t{1}, std::size_t{3}, std::size_t{40}, std::size_t{301}}) {
          const outcome got = attend(store, of.view(), q, {.k = k, .scale = 0.03});
          for (std::size_t i = 0; i < 2 * s.shape.query_heads; ++i) {
            const readable all = project(of, s.shape, i % s.shape.query_heads / s.shape.group(), hidden, live);
            const expected want = plain_attention(all, q.data() + i * s.shape.head_dim, k, 0.03);
            expect_head(got, i, want, 2e-5, fmt::format("d_model {}, {} tokens, k {}, row {}", s.width, tokens, k, i));
          }
        }
      }
    }
  }
}

TEST(HiddenStateStore, PrefersTheOlderOfEqualTokens) {
  const kvkeep::model_shape shape{1, 3, 1, 4};
  constexpr std::size_t width = 20;
  source next(5);
  const layer of(shape, width, next);
  const floats one = next(width);
  floats hidden;
  for (int t = 0; t < 1000; ++t) hidden.insert(hidden.end(), one.begin(), one.end());
  auto store = store_of(shape, hidden, width);
  store.erase(0, 3);
  store.erase(5, 6);
  const outcome got = attend(store, of.view(), next(12), {.k = 4});
  for (const numbers& chosen : got.chosen) EXPECT_EQ(chosen, (numbers{3, 4, 6, 7}));
}

TEST(HiddenStateStore, NeverReadsWhatWasErased) {
  const kvkeep::model_shape shape{1, 2, 1, 4};
  constexpr std::size_t width = 8;
  source next(6);
  const layer of(shape, width, next);
  auto store = store_of(shape, next(70 * width), width, 80);
  const floats q = next(8);
  const outcome before = attend(store, of.view(), q, {.k = 70});
  // The best go, one after the other, until nothing is left: the others come in the same order, none twice.
  numbers left = before.chosen[0];
  while (!left.empty()) {
    EXPECT_EQ(attend(store, of.view(), q, {.k = 70}).chosen[0], left);
    EXPECT_EQ(store.held(), left.size());
    EXPECT_TRUE(store.holds(left[0]));
    store.erase(left[0], left[0] + 1);
    store.erase(left[0], left[0] + 1);  // once more: the same
    EXPECT_FALSE(store.holds(left[0]));
    left.erase(left.begin());
  }
  const outcome none = attend(store, of.view(), q, {.k = 70});
  EXPECT_TRUE(none.chosen[0].empty());
  EXPECT_TRUE(std::all_of(none.out.begin(), none.out.end(), [](float x) { return std::isnan(x); }));
  EXPECT_EQ(none.log_sum_exp, (floats{-infinity, -infinity}));
  EXPECT_EQ(store.size(), 70U);
  // Numbers go on behind those that were erased.
  store.append(vectors(next(width), width));
  EXPECT_EQ(attend(store, of.view(), q, {.k = 70}).chosen[0], numbers{70});
}

// Generated tokens are searched like any other, and speculation that was rejected leaves nothing behind.
TEST(HiddenStateStore, SearchesGeneratedTokensAndForgetsRejectedOnes) {
  const kvkeep::model_shape shape{1, 2, 1, 4};
  constexpr std::size_t width = 8;
  source next(7);
  const layer of(shape, width, next);
  const floats prompt = next(40 * width, 0.1F);
  auto store = store_of(shape, prompt, width, 44);
  const floats q = next(8);
  const outcome before = attend(store, of.view(), q, {.k = 5});
  // W_k^T of head 0's query, far longer than the prompt's vectors: nobody is as good.
  floats best(width, 0.0F);
  for (std::size_t c = 0; c < 4; ++c) {
    for (std::size_t i = 0; i < width; ++i) best[i] += 10.0F * q[c] * of.wk[c * width + i];
  }
  store.append(vectors(best, width));
  EXPECT_EQ(attend(store, of.view(), q, {.k = 5}).chosen[0][0], 40U);
  store.append(vectors(best, width));
  store.erase(41, 42);
  store.truncate(40);
  const outcome after = attend(store, of.view(), q, {.k = 5});
  EXPECT_EQ(after.chosen, before.chosen);
  EXPECT_EQ(after.out, before.out);
  EXPECT_EQ(after.log_sum_exp, before.log_sum_exp);
  // A number that was erased and then forgotten is as good as new.
  store.append(vectors(next(width), width));
  store.append(vectors(best, width));
  EXPECT_EQ(attend(store, of.view(), q, {.k = 5}).chosen[0][0], 41U);
  store.clear();
  EXPECT_EQ(store.size(), 0U);
  store.append(vectors(prompt, width));
  EXPECT_EQ(attend(store, of.view(), q, {.k = 5}).out, before.out);
}

// A chunk of queries that are the newest tokens reads what each would have read when it came.
TEST(HiddenStateStore, CausalQueriesReadWhatWasThere) {
  const kvkeep::model_shape shape{1, 4, 2, 4};
  constexpr std::size_t width = 16;
  constexpr std::size_t tokens = 45;
  constexpr std::size_t row = 16;
  source next(8);
  const layer of(shape, width, next);
  const floats hidden = next(tokens * width);
  const floats q = next(tokens * row);
  for (const std::size_t behind : {std::size_t{0}, std::size_t{1}, std::size_t{10}, std::size_t{99}}) {
    auto whole = store_of(shape, hidden, width);
    whole.erase(4, 7);
    const outcome together = attend(whole, of.view(), q, {.k = 6, .causal = true, .behind = behind});
    auto grown = kvkeep::make_hidden_state_store(shape, {.d_model = width, .max_tokens = tokens});
    for (std::size_t t = 0; t < tokens; ++t) {
      grown.append({hidden.data() + t * width, 1, 1, width});
      if (t >= 4 && t < 7) grown.erase(t, t + 1);
      const floats mine(q.begin() + static_cast<std::ptrdiff_t>(t * row),
                        q.begin() + static_cast<std::ptrdiff_t>((t + 1) * row));
      const outcome alone = attend(grown, of.view(), mine, {.k = 6, .behind = behind});
      for (std::size_t h = 0; h < 4; ++h) {
        EXPECT_EQ(together.chosen[t * 4 + h], alone.chosen[h]) << t;
        const std::size_t erased = std::clamp<std::size_t>(t + 1 > behind ? t + 1 - behind : 0, 4, 7) - 4;
        const std::size_t there = t + 1 > behind ? t + 1 - behind - erased : 0;
        EXPECT_EQ(alone.chosen[h].size(), std::min<std::size_t>(6, there)) << t;
        for (const std::uint32_t c : alone.chosen[h]) EXPECT_LT(c + behind, t + 1);
        if (there == 0) continue;
        EXPECT_EQ(together.log_sum_exp[t * 4 + h], alone.log_sum_exp[h]);
        for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(together.out[(t * 4 + h) * 4 + c], alone.out[h * 4 + c]);
      }
    }
  }
}

// The newest tokens in a window, the others in the store: joined they are dense attention.
TEST(HiddenStateStore, JoinsWithAWindow) {
  const kvkeep::model_shape shape{1, 2, 1, 4};
  constexpr std::size_t width = 16;
  constexpr std::size_t tokens = 30;
  constexpr std::size_t window = 8;
  source next(9);
  const layer of(shape, width, next);
  const floats hidden = next(tokens * width);
  const floats q = next(8);
  auto store = store_of(shape, hidden, width);
  const outcome dense = attend(store, of.view(), q, {.k = tokens});
  outcome far = attend(store, of.view(), q, {.k = tokens, .behind = window});
  auto near_store = store_of(shape, floats(hidden.end() - window * width, hidden.end()), width, tokens);
  outcome near = attend(near_store, of.view(), q, {.k = tokens});
  for (std::size_t h = 0; h < 2; ++h) {
    kvkeep::softmax_state into{near.log_sum_exp[h], 1.0F, std::span(near.out).subspan(h * 4, 4)};
    kvkeep::merge(into, {far.log_sum_exp[h], 1.0F, std::span(far.out).subspan(h * 4, 4)});
    floats joined(4);
    into.finish(joined);
    for (std::size_t c = 0; c < 4; ++c) EXPECT_NEAR(joined[c], dense.out[h * 4 + c], 1e-5F);
    EXPECT_NEAR(into.log_sum_exp(), dense.log_sum_exp[h], 1e-5F);
  }
}

// ---- RoPE

// Every key at one distance: ranking and attention are those of brute force at that distance, in every layout and scaling.
TEST(HiddenStateStore, SearchesAtAConstantDistance) {
  const kvkeep::model_shape shape{1, 4, 2, 16};
  constexpr std::size_t width = 32;
  constexpr std::size_t tokens = 80;
  source next(10);
  const layer of(shape, width, next);
  const floats hidden = next(tokens * width);
  const floats q = next(shape.query_heads * shape.head_dim, 2.0F);
  std::vector<std::vector<numbers>> seen;
  for (const kvkeep::rope& rotary :
       {kvkeep::rope{}, kvkeep::rope{.theta = 500.0, .rotary_dim = 8, .layout = kvkeep::rope_layout::interleaved},
        kvkeep::rope{.scaling = kvkeep::yarn_scaling{.factor = 8.0, .original_max_position = 64.0}},
        kvkeep::rope{.scaling = kvkeep::dynamic_ntk_scaling{.factor = 2.0, .original_max_position = 64.0}},
        kvkeep::rope{.rotary_dim = 8, .scaling = kvkeep::yarn_scaling{.factor = 8.0, .original_max_position = 64.0}}}) {
    for (const std::size_t at : {std::size_t{0}, std::size_t{1}, std::size_t{2048}}) {
      auto store =
          kvkeep::make_hidden_state_store(shape, {.d_model = width, .max_tokens = tokens, .rotary = rotary, .at = at});
      store.append(vectors(hidden, width));
      floats keys(tokens * 2 * 16), values(keys.size());
      store.project(of.view(), first_numbers(tokens), {keys.data(), tokens, 2, 16}, {values.data(), tokens, 2, 16});
      const auto attention = [&](const auto& read_by) {
        return kvkeep::reference_attention({q.data(), 1, 4, 16}, {std::as_const(keys).data(), tokens, 2, 16},
                                           {std::as_const(values).data(), tokens, 2, 16},
                                           {.positions = rotary, .length = at + 1}, [&](std::size_t, std::size_t j) {
                                             return read_by(j) ? std::optional(static_cast<kvkeep::position>(at))
                                                               : std::nullopt;
                                           });
      };
      const auto all = attention([](std::size_t) { return true; });
      const outcome got = attend(store, of.view(), q, {.k = 9});
      seen.push_back(got.chosen);
      for (std::size_t h = 0; h < 4; ++h) {
        numbers order = first_numbers(tokens);
        std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
          return all.mass[h * tokens + a] > all.mass[h * tokens + b];
        });
        order.resize(9);
        EXPECT_EQ(got.chosen[h], order) << "at " << at;
        const auto some = attention([&](std::size_t j) { return std::count(order.begin(), order.end(), j) > 0; });
        EXPECT_NEAR(static_cast<double>(got.log_sum_exp[h]), some.log_sum_exp[h], 2e-5);
        for (std::size_t c = 0; c < 16; ++c) {
          EXPECT_NEAR(static_cast<double>(got.out[h * 16 + c]), some.output[h * 16 + c], 2e-5) << "at " << at;
        }
      }
    }
  }
  EXPECT_NE(seen[0], seen[2]);  // the distance matters
  EXPECT_NE(seen[2], seen[5]);  // and so do frequencies
}

// ---- memory, threads, bad numbers

TEST(HiddenStateStore, TakesTheBytesItSaysAndNoMore) {
  const kvkeep::model_shape shape{32, 4, 2, 8};
  for (const std::size_t width : {std::size_t{16}, std::size_t{17}}) {
    const kvkeep::hidden_state_options options{
        .d_model = width, .max_tokens = 1000, .rotary = kvkeep::rope{}, .at = 100};
    const std::size_t told = kvkeep::hidden_state_store::bytes(shape, options);
    const std::size_t before = bytes_allocated();
    auto store = kvkeep::make_hidden_state_store(shape, options);
    EXPECT_EQ(bytes_allocated() - before, told);
    // The vectors, padded to 16 floats; besides them what a search needs of every token.
    EXPECT_GE(told, 1000 * (width == 16 ? 16U : 32U) * 4);
    EXPECT_LE(told, 1000 * ((width == 16 ? 16U : 32U) * 4 + 4 * (shape.query_heads + 5)) + 4096);
    source next(11);
    const layer of(shape, width, next);
    const floats hidden = next(1000 * width);
    const floats q = next(3 * 32);
    floats out(q.size());
    numbers tokens(3 * 4 * 50), counts(12);
    floats log_sum_exp(12), keys(16), values(16);
    const std::size_t calls = allocations();
    store.append({hidden.data(), 990, 1, width});
    store.attend(of.view(), {q.data(), 3, 4, 8}, {.k = 50}, {out.data(), 3, 4, 8}, {tokens, counts, log_sum_exp});
    store.append({hidden.data(), 10, 1, width});
    store.erase(3, 500);
    store.attend(of.view(), {q.data(), 3, 4, 8}, {.k = 50, .causal = true, .behind = 3}, {out.data(), 3, 4, 8});
    store.project(of.view(), std::span(tokens).first(0), {keys.data(), 0, 2, 8}, {values.data(), 0, 2, 8});
    store.truncate(4);
    store.clear();
    EXPECT_EQ(allocations(), calls);
  }
}

/// Runs tasks backwards, by turns of three workers.
struct backwards {
  static std::size_t workers() { return 3; }
  void run(std::size_t tasks, kvkeep::task_ref f) {
    most = std::max(most, tasks);
    for (std::size_t i = tasks; i-- > 0;) f(i, i % 3);
  }
  std::size_t most = 0;
};

TEST(HiddenStateStore, SharesTheSearchOutBitForBit) {
  const kvkeep::model_shape shape{1, 6, 2, 8};
  constexpr std::size_t width = 40;
  source next(12);
  const layer of(shape, width, next);
  auto store = store_of(shape, next(1500 * width), width);
  const floats q = next(2 * 48);
  backwards executor;
  const outcome alone = attend(store, of.view(), q, {.k = 100});
  const outcome shared = attend(store, of.view(), q, {.k = 100}, executor);
  EXPECT_GT(executor.most, 3U);
  EXPECT_EQ(alone.out, shared.out);
  EXPECT_EQ(alone.chosen, shared.chosen);
  EXPECT_EQ(alone.log_sum_exp, shared.log_sum_exp);
}

TEST(HiddenStateStore, NonFiniteVectorsHarmOnlyWhoReadsThem) {
  const kvkeep::model_shape shape{1, 2, 2, 4};
  constexpr std::size_t width = 8;
  source next(13);
  const layer of(shape, width, next);
  floats hidden = next(40 * width);
  const floats q = next(8);
  auto clean = store_of(shape, hidden, width);
  clean.erase(11, 12);
  clean.erase(20, 21);
  const outcome without = attend(clean, of.view(), q, {.k = 38});
  std::fill_n(hidden.begin() + 11 * width, width, nan);
  hidden[20 * width + 3] = nan;
  auto store = store_of(shape, hidden, width);
  // They rank last, the older first: with k = 38 the 38 others are read.
  const outcome some = attend(store, of.view(), q, {.k = 38});
  EXPECT_EQ(some.chosen, without.chosen);
  EXPECT_EQ(some.out, without.out);
  const outcome all = attend(store, of.view(), q, {.k = 40});
  for (std::size_t h = 0; h < 2; ++h) {
    EXPECT_EQ(all.chosen[h][38], 11U);
    EXPECT_EQ(all.chosen[h][39], 20U);
    for (std::size_t c = 0; c < 4; ++c) EXPECT_TRUE(std::isnan(all.out[h * 4 + c]));
  }
  // Erased they are gone, and their places hide no token that is there.
  store.erase(11, 12);
  const outcome last = attend(store, of.view(), q, {.k = 40});
  EXPECT_EQ(last.chosen[0].size(), 39U);
  EXPECT_EQ(last.chosen[0][38], 20U);
  // A query that is no number harms its own head.
  floats bad = q;
  bad[5] = nan;
  const outcome other = attend(clean, of.view(), bad, {.k = 38});
  EXPECT_TRUE(std::equal(other.out.begin(), other.out.begin() + 4, without.out.begin()));
  EXPECT_EQ(other.chosen[0], without.chosen[0]);
  EXPECT_TRUE(std::isnan(other.out[4]));
  EXPECT_EQ(other.chosen[1].size(), 38U);
}

template <class T>
void expect_refused(const kvkeep::result<T>& r, const std::string& argument, const std::string& text,
                    kvkeep::errc code = kvkeep::errc::invalid_argument) {
  if (r) {
    ADD_FAILURE() << argument << " was not refused";
    return;
  }
  EXPECT_EQ(r.error().argument(), argument);
  EXPECT_EQ(r.error().code(), code) << r.error().message();
  EXPECT_NE(r.error().message().find(text), std::string::npos) << r.error().message();
}

TEST(HiddenStateStore, RefusesBadSizesByName) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  const auto made = [&](const kvkeep::hidden_state_options& options) {
    expect_refused(kvkeep::hidden_state_store::try_bytes(shape, options),
                   kvkeep::try_make_hidden_state_store(shape, options).error().argument(),
                   "kvkeep: ", kvkeep::try_make_hidden_state_store(shape, options).error().code());
    return kvkeep::try_make_hidden_state_store(shape, options);
  };
  expect_refused(made({.d_model = 0, .max_tokens = 1}), "d_model", "d_model = 0; allowed: 1 .. 1048576");
  expect_refused(made({.d_model = 1048577, .max_tokens = 1}), "d_model", "1048577");
  expect_refused(made({.d_model = 16, .max_tokens = 0}), "max_tokens", "max_tokens = 0; allowed: 1 .. 2147483647");
  expect_refused(made({.d_model = 16, .max_tokens = 2147483648}), "max_tokens", "2147483648");
  expect_refused(made({.d_model = 16, .max_tokens = 9, .at = 5}), "at", "at = 5; allowed: 0 without rotary");
  expect_refused(made({.d_model = 16, .max_tokens = 9, .rotary = kvkeep::rope{}, .at = 2147483648}), "at",
                 "2147483647");
  expect_refused(made({.d_model = 16, .max_tokens = 9, .rotary = kvkeep::rope{.rotary_dim = 9}}), "rotary_dim", "9");
  expect_refused(made({.d_model = 16, .max_tokens = 9, .rotary = kvkeep::rope{.theta = -1.0}}), "theta", "-1");
  expect_refused(
      made({.d_model = 16, .max_tokens = 9, .rotary = kvkeep::rope{.layout = static_cast<kvkeep::rope_layout>(9)}}),
      "layout", "layout = 9; allowed: half_split or interleaved");
  expect_refused(made({.d_model = 16, .max_tokens = 9, .rotary = kvkeep::rope{.applied = true}}), "rotary.applied",
                 "before RoPE", kvkeep::errc::unsupported);
  const kvkeep::model_shape wrong{1, 4, 3, 8};
  expect_refused(kvkeep::try_make_hidden_state_store(wrong, {.d_model = 16, .max_tokens = 9}), "query_heads", "3");
}

TEST(HiddenStateStore, RefusesBadCallsByNameAndChangesNothing) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  constexpr std::size_t width = 16;
  source next(14);
  const layer of(shape, width, next);
  const floats hidden = next(12 * width);
  const floats q = next(2 * 32);
  auto store = store_of(shape, floats(hidden.begin(), hidden.begin() + 10 * width), width, 11);
  const outcome before = attend(store, of.view(), q, {.k = 3});

  using kvkeep::errc;
  const float* const h = hidden.data();
  expect_refused(store.try_append({h, 2, 1, width}), "hidden", "2 tokens come to the 10 there are", errc::capacity);
  expect_refused(store.try_append({h, 1, 1, width - 1}), "hidden", "[1, 1, 15]; allowed: [1, 1, 16]");
  expect_refused(store.try_append({h, 1, 2, width}), "hidden", "[1, 2, 16]");
  expect_refused(store.try_append({h, 1, 1, width, width - 1}), "hidden.token_stride", "15");
  expect_refused(store.try_append({nullptr, 1, 1, width}), "hidden.data", "null");
  expect_refused(store.try_erase(5, 11), "last", "last = 11; allowed: 0 .. size = 10");
  expect_refused(store.try_erase(5, 4), "first", "first = 5; allowed: 0 .. last = 4");
  expect_refused(store.try_truncate(11), "size", "size = 11; allowed: 0 .. 10");

  floats out(q.size(), -1.0F);
  numbers tokens(2 * 4 * 3, 7U), counts(8, 7U);
  floats sums(8, 7.0F);
  const kvkeep::rows_view<const float> queries{q.data(), 2, 4, 8};
  const kvkeep::rows_view<float> outputs{out.data(), 2, 4, 8};
  const auto refuse = [&](const kvkeep::hidden_state_projection& p, kvkeep::rows_view<const float> in,
                          const kvkeep::hidden_state_read& read, kvkeep::rows_view<float> to,
                          const std::string& argument, const std::string& text) {
    expect_refused(store.try_attend(p, in, read, to, {tokens, counts, sums}), argument, text);
  };
  refuse(of.view(), queries, {.k = 0}, outputs, "k", "k = 0; allowed: 1 .. max_tokens = 11");
  refuse(of.view(), queries, {.k = 12}, outputs, "k", "k = 12; allowed: 1 .. max_tokens = 11");
  for (const double scale : {-1.0, 1e-60, 1e60, static_cast<double>(nan), static_cast<double>(infinity)}) {
    refuse(of.view(), queries, {.k = 3, .scale = scale}, outputs, "scale", "allowed: ");
  }
  refuse(of.view(), {q.data(), 2, 3, 8}, {.k = 3}, outputs, "q", "[2, 3, 8]; allowed: [2, 4, 8]");
  refuse(of.view(), {nullptr, 2, 4, 8}, {.k = 3}, outputs, "q.data", "null");
  refuse(of.view(), queries, {.k = 3}, {out.data(), 1, 4, 8}, "out", "[1, 4, 8]; allowed: [2, 4, 8]");
  refuse(of.view(), queries, {.k = 3}, {out.data(), 2, 4, 8, 31}, "out.token_stride", "31");
  refuse(of.view(), {q.data(), 11, 4, 8, 0}, {.k = 3, .causal = true}, {out.data(), 11, 4, 8}, "q.token_stride", "0");
  refuse({{of.wk.data(), 15, 1, width}, of.view().wv, of.bk, of.bv}, queries, {.k = 3}, outputs, "wk", "[16, 1, 16]");
  refuse({of.view().wk, {of.wv.data(), 16, 1, 15}, of.bk, of.bv}, queries, {.k = 3}, outputs, "wv", "[16, 1, 16]");
  refuse({of.view().wk, of.view().wv, std::span(of.bk).first(8), of.bv}, queries, {.k = 3}, outputs, "bk", "8 values");
  refuse({of.view().wk, of.view().wv, of.bk, std::span(of.bv).first(1)}, queries, {.k = 3}, outputs, "bv", "1 values");
  const auto room = [&](const kvkeep::hidden_state_choice& chosen, const std::string& argument) {
    expect_refused(store.try_attend(of.view(), queries, {.k = 3}, outputs, chosen), argument, "elements");
  };
  room({std::span(tokens).first(23), counts, sums}, "chosen.tokens");
  room({tokens, std::span(counts).first(7), sums}, "chosen.counts");
  room({tokens, counts, std::span(sums).first(7)}, "chosen.log_sum_exp");
  auto small = store_of(shape, floats(hidden.begin(), hidden.begin() + width), width);
  expect_refused(small.try_attend(of.view(), queries, {.k = 1, .causal = true}, outputs), "q.tokens", "size = 1");

  floats keys(2 * 16, -1.0F), values(2 * 16, -1.0F);
  store.erase(4, 5);
  expect_refused(store.try_project(of.view(), numbers{3, 4}, {keys.data(), 2, 2, 8}, {values.data(), 2, 2, 8}),
                 "tokens", "tokens = 4");
  expect_refused(store.try_project(of.view(), numbers{3, 10}, {keys.data(), 2, 2, 8}, {values.data(), 2, 2, 8}),
                 "tokens", "tokens = 10");
  expect_refused(store.try_project(of.view(), numbers{3}, {keys.data(), 2, 2, 8}, {values.data(), 1, 2, 8}), "keys",
                 "");
  expect_refused(store.try_project(of.view(), numbers{3}, {keys.data(), 1, 2, 8}, {values.data(), 1, 2, 7}), "values",
                 "");
  EXPECT_EQ(keys, floats(32, -1.0F));
  EXPECT_EQ(values, floats(32, -1.0F));
  store.truncate(4);
  store.append({h + 4 * width, 6, 1, width});

  EXPECT_EQ(out, floats(q.size(), -1.0F));
  EXPECT_EQ(tokens, numbers(24, 7U));
  EXPECT_EQ(counts, numbers(8, 7U));
  EXPECT_EQ(sums, floats(8, 7.0F));
  const outcome after = attend(store, of.view(), q, {.k = 3});
  EXPECT_EQ(after.out, before.out);
  EXPECT_EQ(after.chosen, before.chosen);
  EXPECT_THROW(attend(store, of.view(), q, {.k = 0}), kvkeep::error);
}

// Outputs and vectors between which other things stand, and queries of no token.
TEST(HiddenStateStore, HonoursStrides) {
  const kvkeep::model_shape shape{1, 2, 1, 4};
  constexpr std::size_t width = 10;
  source next(15);
  const layer of(shape, width, next);
  const floats hidden = next(9 * width);
  const floats q = next(2 * 8);
  auto plain = store_of(shape, hidden, width);
  const outcome want = attend(plain, of.view(), q, {.k = 4});
  floats spread(9 * 13, nan), wide_q(2 * 11, nan), wide_out(2 * 9, -1.0F);
  for (std::size_t t = 0; t < 9; ++t) {
    for (std::size_t c = 0; c < width; ++c) spread[t * 13 + c] = hidden[t * width + c];
  }
  for (std::size_t t = 0; t < 2; ++t) {
    for (std::size_t c = 0; c < 8; ++c) wide_q[t * 11 + c] = q[t * 8 + c];
  }
  auto store = kvkeep::make_hidden_state_store(shape, {.d_model = width, .max_tokens = 9});
  store.append({spread.data(), 9, 1, width, 13});
  EXPECT_TRUE(std::equal(hidden.end() - width, hidden.end(), store.vector(8).begin(), store.vector(8).end()));
  store.attend(of.view(), {wide_q.data(), 2, 2, 4, 11}, {.k = 4}, {wide_out.data(), 2, 2, 4, 9});
  for (std::size_t t = 0; t < 2; ++t) {
    for (std::size_t c = 0; c < 8; ++c) EXPECT_EQ(wide_out[t * 9 + c], want.out[t * 8 + c]);
    EXPECT_EQ(wide_out[t * 9 + 8], -1.0F);
  }
  store.attend(of.view(), {nullptr, 0, 2, 4}, {.k = 4, .causal = true}, {nullptr, 0, 2, 4});
  store.append({nullptr, 0, 1, width});
  EXPECT_EQ(store.size(), 9U);
}

// ---- cost

TEST(HiddenStateCost, SaysWhenAStoreWins) {
  // Llama-3-8B: 4096 numbers in place of 2 * 1024.
  const kvkeep::model_shape llama3{32, 32, 8, 128};
  const auto grouped = kvkeep::hidden_state_cost_of(
      llama3, {.d_model = 4096, .tokens = 131072, .k = 2048, .hidden_bytes = 2.0, .kv_bytes = 2.0});
  EXPECT_EQ(grouped.store_bytes, 32.0 * 131072 * 4096 * 2);
  EXPECT_EQ(grouped.kv_bytes, 32.0 * 131072 * 2 * 1024 * 2);
  EXPECT_EQ(grouped.times_smaller(), 0.5);
  EXPECT_EQ(grouped.query_macs, 32.0 * 128 * 4096);
  EXPECT_EQ(grouped.projection_macs, 32.0 * 2048 * 4096 * 2 * 128);
  EXPECT_EQ(grouped.folded_macs, 32.0 * (2048 + 128) * 4096);
  EXPECT_EQ(grouped.search_macs, 32.0 * 131072 * 4096);
  EXPECT_EQ(grouped.dense_macs, 32.0 * 131072 * 256);
  // Llama-2-7B has as many kv heads as query heads: half the bytes. Stored in halves where keys are in floats: a quarter.
  const kvkeep::model_shape llama2{32, 32, 32, 128};
  EXPECT_EQ(kvkeep::hidden_state_cost_of(llama2, {.d_model = 4096, .tokens = 10}).times_smaller(), 2.0);
  EXPECT_EQ(kvkeep::hidden_state_cost_of(llama2, {.d_model = 4096, .tokens = 10, .hidden_bytes = 2.0}).times_smaller(),
            4.0);
  // BART-large: one store for the cross-attention of 12 decoder layers.
  const kvkeep::model_shape bart{12, 16, 16, 64};
  const auto shared = kvkeep::hidden_state_cost_of(
      bart, {.d_model = 1024, .tokens = 500, .k = 1024, .stores = kvkeep::hidden_state_stores::one_for_all});
  EXPECT_EQ(shared.store_bytes, 500.0 * 1024 * 4);
  EXPECT_EQ(shared.times_smaller(), 24.0);
  EXPECT_EQ(shared.projection_macs, 16.0 * 500 * 1024 * 128);  // k counts as the tokens there are
}

TEST(HiddenStateCost, RefusesBadNumbersByName) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  expect_refused(kvkeep::try_hidden_state_cost_of({1, 4, 3, 8}, {.d_model = 8}), "query_heads", "3");
  expect_refused(kvkeep::try_hidden_state_cost_of(shape, {}), "d_model", "d_model = 0; allowed: 1 .. 1048576");
  expect_refused(
      kvkeep::try_hidden_state_cost_of(shape, {.d_model = 8, .stores = static_cast<kvkeep::hidden_state_stores>(2)}),
      "stores", "stores = 2; allowed: one_a_layer or one_for_all");
  for (const double bytes : {0.0, -1.0, static_cast<double>(nan), static_cast<double>(infinity)}) {
    expect_refused(kvkeep::try_hidden_state_cost_of(shape, {.d_model = 8, .hidden_bytes = bytes}), "hidden_bytes",
                   "> 0");
    expect_refused(kvkeep::try_hidden_state_cost_of(shape, {.d_model = 8, .kv_bytes = bytes}), "kv_bytes", "> 0");
  }
}

// ---- windows and positions

using windows = std::vector<kvkeep::encoding_window>;

windows windows_of(std::size_t tokens, const kvkeep::encoding_window_options& options) {
  const auto made = kvkeep::make_encoding_windows(tokens, options);
  windows out;
  for (std::size_t i = 0; i < made.size(); ++i) out.push_back(made[i]);
  return out;
}

TEST(EncodingWindows, AreThePublishedOnes) {
  const kvkeep::encoding_window_options middle{.window = 8, .overlap = 0.5};
  EXPECT_EQ(windows_of(20, middle), (windows{{0, 8, 0, 6}, {4, 12, 6, 10}, {8, 16, 10, 14}, {12, 20, 14, 20}}));
  EXPECT_EQ(windows_of(19, middle), (windows{{0, 8, 0, 6}, {4, 12, 6, 10}, {8, 16, 10, 14}, {11, 19, 14, 19}}));
  EXPECT_EQ(windows_of(9, middle), (windows{{0, 8, 0, 6}, {1, 9, 6, 9}}));
  const kvkeep::encoding_window_options newest{.window = 8, .overlap = 0.5, .keeps = kvkeep::kept_part::newest};
  EXPECT_EQ(windows_of(20, newest), (windows{{0, 8, 0, 8}, {4, 12, 8, 12}, {8, 16, 12, 16}, {12, 20, 16, 20}}));
  EXPECT_EQ(windows_of(19, newest), (windows{{0, 8, 0, 8}, {4, 12, 8, 12}, {8, 16, 12, 16}, {11, 19, 16, 19}}));
  EXPECT_EQ(windows_of(9, newest), (windows{{0, 8, 0, 8}, {1, 9, 8, 9}}));
  for (const auto& options : {middle, newest}) {
    EXPECT_EQ(windows_of(8, options), (windows{{0, 8, 0, 8}}));
    EXPECT_EQ(windows_of(3, options), (windows{{0, 3, 0, 3}}));
    EXPECT_TRUE(windows_of(0, options).empty());
  }
}

TEST(EncodingWindows, KeepEveryTokenOnceWithItsContext) {
  for (const auto keeps : {kvkeep::kept_part::middle, kvkeep::kept_part::newest}) {
    for (std::size_t window = 1; window <= 12; ++window) {
      for (const double overlap : {0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, std::nextafter(1.0, 0.0)}) {
        const std::size_t margin = static_cast<std::size_t>(static_cast<double>(window) * overlap / 2.0);
        for (std::size_t tokens = 1; tokens <= 60; ++tokens) {
          const auto made =
              kvkeep::make_encoding_windows(tokens, {.window = window, .overlap = overlap, .keeps = keeps});
          EXPECT_EQ(made.stride(), window - 2 * margin);
          EXPECT_GE(made.stride(), 1U);
          std::size_t next = 0;
          for (std::size_t i = 0; i < made.size(); ++i) {
            const kvkeep::encoding_window w = made[i];
            EXPECT_EQ(w.keep_begin, next);
            EXPECT_LT(w.keep_begin, w.keep_end);
            EXPECT_LE(w.begin, w.keep_begin);
            EXPECT_LE(w.keep_end, w.end);
            EXPECT_EQ(w.end - w.begin, std::min(window, tokens));
            // Context before what is kept, and behind it in an encoder.
            const bool middle = keeps == kvkeep::kept_part::middle;
            if (i > 0) EXPECT_GE(w.keep_begin - w.begin, middle ? margin : 2 * margin);
            if (i + 1 < made.size() && middle) EXPECT_EQ(w.end - w.keep_end, margin);
            if (i + 1 < made.size()) EXPECT_EQ(w.begin, i * made.stride());
            next = w.keep_end;
          }
          EXPECT_EQ(next, tokens);
          EXPECT_EQ(made[made.size() - 1].end, tokens);
        }
      }
    }
  }
  // Half a million tokens of BART, and as many as there may be.
  EXPECT_EQ(kvkeep::make_encoding_windows(500000, {.window = 1024}).size(), 976U);
  const std::size_t most = std::size_t{1} << 62;
  const auto many = kvkeep::make_encoding_windows(most, {.window = 2});
  EXPECT_EQ(many[many.size() - 1], (kvkeep::encoding_window{most - 2, most, most - 2, most}));
}

TEST(EncodingWindows, RefuseBadNumbersByName) {
  expect_refused(kvkeep::try_make_encoding_windows(9, {}), "window", "window = 0; allowed: 1 .. 2147483647");
  expect_refused(kvkeep::try_make_encoding_windows(9, {.window = 2147483648}), "window", "2147483648");
  for (const double overlap : {-0.1, 1.0, 2.0, static_cast<double>(nan)}) {
    expect_refused(kvkeep::try_make_encoding_windows(9, {.window = 8, .overlap = overlap}), "overlap",
                   "0 <= overlap < 1: windows of stride 0");
  }
  expect_refused(kvkeep::try_make_encoding_windows(9, {.window = 8, .keeps = static_cast<kvkeep::kept_part>(7)}),
                 "keeps", "keeps = 7; allowed: middle or newest");
  expect_refused(kvkeep::try_make_encoding_windows((std::size_t{1} << 62) + 1, {.window = 8}), "tokens",
                 "allowed: 0 .. ");
}

TEST(SqueezedPosition, IsLinearInLongInputsAndTheTokenInOthers) {
  EXPECT_EQ(kvkeep::squeezed_position(0, 16384, 4096), 0);
  EXPECT_EQ(kvkeep::squeezed_position(3, 16384, 4096), 0);
  EXPECT_EQ(kvkeep::squeezed_position(4, 16384, 4096), 1);
  EXPECT_EQ(kvkeep::squeezed_position(16383, 16384, 4096), 4095);
  EXPECT_EQ(kvkeep::squeezed_position(4294967294, 4294967295, 2147483647), 2147483646);
  for (std::size_t i = 0; i < 4096; ++i) {
    EXPECT_EQ(kvkeep::squeezed_position(i, 4096, 4096), static_cast<kvkeep::position>(i));
    if (i < 100) EXPECT_EQ(kvkeep::squeezed_position(i, 100, 4096), static_cast<kvkeep::position>(i));
  }
  expect_refused(kvkeep::try_squeezed_position(0, 0, 8), "tokens", "tokens = 0; allowed: 1 .. 4294967295");
  expect_refused(kvkeep::try_squeezed_position(0, 4294967296, 8), "tokens", "4294967296");
  expect_refused(kvkeep::try_squeezed_position(0, 9, 0), "window", "window = 0; allowed: 1 .. 2147483647");
  expect_refused(kvkeep::try_squeezed_position(0, 9, 2147483648), "window", "2147483648");
  expect_refused(kvkeep::try_squeezed_position(9, 9, 8), "index", "index = 9; allowed: 0 .. tokens - 1 = 8");
}

}  // namespace
}  // namespace kvkeep_test
