// nearest_keys and middle_top_k under whatever else a cache can be told, erased and shortened, against plain words in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "../support/rows.hpp"
#include "kvkeep/core/thread_executor.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::chosen_by;
using kvkeep::position;
using numbers = std::vector<std::uint32_t>;

constexpr std::size_t stream = 150;

/// What a rule is told, in words that the oracle needs; `all_or_none`: middle_top_k.
struct rule_words {
  std::size_t sinks = 0;
  std::size_t window = 1;
  std::size_t count = 1;
  std::size_t at = 0;
  std::optional<std::size_t> ceiling{};
  bool together = false;  // the query heads of a kv head choose
  bool all_or_none = false;
};

/// A cache's set-up.
struct setup {
  kvkeep::model_shape shape{1, 1, 1, 8};
  kvkeep::cache_options options{};
  kvkeep::rope rope{.theta = 100.0};
  rule_words rule{};
};

setup random_setup(dice& random) {
  setup s;
  s.shape.kv_heads = random.between(1, 3);
  s.shape.query_heads = s.shape.kv_heads * random.between(1, 3);
  s.shape.head_dim = random.chance(0.5) ? 8 : 24;
  s.rule.sinks = random.between(0, 5);
  s.rule.window = random.between(1, 20);
  s.rule.count = random.between(1, 60);
  s.rule.at = random.between(0, 40);
  if (random.chance(0.7)) s.rule.ceiling = random.between(0, stream);
  s.rule.together = random.chance(0.5);
  if (random.chance(0.5)) s.rope.rotary_dim = random.chance(0.5) ? 4 : 6;
  if (random.chance(0.5)) s.rope.layout = kvkeep::rope_layout::interleaved;
  switch (random.between(0, 3)) {
    case 0:
      s.rope.scaling = kvkeep::yarn_scaling{.factor = 4.0, .original_max_position = 32.0};
      break;
    case 1:
      s.rope.scaling = kvkeep::dynamic_ntk_scaling{.factor = 2.0, .original_max_position = 16.0};
      break;
    default:
      break;
  }
  s.options.positions = s.rope;
  s.options.max_step = random.between(1, 40);
  s.options.first_position = random.chance(0.5) ? 0 : static_cast<position>(random.between(1, 100000));
  s.options.key_parts = random.between(1, 4);
  s.options.workers = random.chance(0.3) ? 2 : 1;
  if (random.chance(0.4)) s.options.scale = 0.7F;
  if (random.chance(0.4)) s.options.softcap = 1.5F;
  for (std::size_t h = 0; random.chance(0.4) && h < s.shape.query_heads; ++h)
    s.options.sink_logits.assign(s.shape.query_heads, random.normal());
  return s;
}

/// Attention in words over the stream's tokens, whose numbers count from 0.
class oracle {
 public:
  explicit oracle(const setup& s) : s_(s) {
    const std::size_t farthest = std::max(s.rule.at, std::min(s.rule.ceiling.value_or(0), stream - 1));
    frequencies_ = *kvkeep::try_rope_frequencies(s.rope, s.shape.head_dim, std::max(farthest, s.rule.window) + 1);
    for (std::size_t j = 0; j < stream; ++j) {
      rows_.push_back(rows_of(s.shape, 0, static_cast<position>(j), 1));
      for (std::size_t h = 0; h < s.shape.kv_heads; ++h) keys_.push_back(turned(0, &rows_[j].k[h * s.shape.head_dim]));
    }
  }

  std::set<std::size_t> gone{};  ///< erased numbers

  struct reading {
    numbers nearest{};                         // best first
    std::map<std::uint32_t, double> scores{};  // of all that were dropped
    std::vector<double> output{};
    double log_sum_exp = 0.0;
  };
  /// The window of query t after that of the query before: who has left it does not come back where others are erased.
  [[nodiscard]] numbers window_of(std::size_t t, const numbers& before) const {
    numbers out;
    for (const std::uint32_t j : before) {
      if (!gone.contains(j)) out.push_back(j);
    }
    if (t >= s_.rule.sinks) out.push_back(static_cast<std::uint32_t>(t));
    if (out.size() > s_.rule.window) out.erase(out.begin());
    return out;
  }
  [[nodiscard]] reading read(std::size_t t, std::size_t head, const numbers& window) const {
    const std::size_t dim = s_.shape.head_dim;
    const std::size_t kv = head / s_.shape.group();
    std::vector<std::size_t> dropped;
    std::vector<std::pair<std::size_t, std::size_t>> taken;  // number, distance
    for (std::size_t j = 0; j <= t; ++j) {
      if (gone.contains(j)) continue;
      if (j < s_.rule.sinks || std::count(window.begin(), window.end(), j) > 0) {
        taken.emplace_back(j, t - j < s_.rule.window ? t - j : s_.rule.at);
      } else {
        dropped.push_back(j);
      }
    }
    reading out;
    if (!s_.rule.all_or_none || dropped.size() >= s_.rule.count) {
      const std::size_t first = s_.rule.together ? kv * s_.shape.group() : head;
      const std::size_t last = s_.rule.together ? first + s_.shape.group() : head + 1;
      std::vector<std::vector<double>> searches;
      for (std::size_t h = first; h < last; ++h) searches.push_back(turned(s_.rule.at, &rows_[t].q[h * dim]));
      std::vector<std::pair<double, std::uint32_t>> scores;  // negative: the largest come first
      for (const std::size_t j : dropped) {
        double sum = 0.0;
        for (const std::vector<double>& q : searches) sum -= dot(q, j, kv);
        scores.emplace_back(sum, static_cast<std::uint32_t>(j));
        out.scores[static_cast<std::uint32_t>(j)] = -sum;
      }
      std::sort(scores.begin(), scores.end());
      scores.resize(std::min(scores.size(), s_.rule.count));
      for (const auto& [score, j] : scores) {
        out.nearest.push_back(j);
        taken.emplace_back(j, s_.rule.ceiling ? std::min<std::size_t>(t - j, *s_.rule.ceiling) : s_.rule.at);
      }
    }
    const double scale =
        s_.options.scale > 0.0F ? static_cast<double>(s_.options.scale) : 1.0 / std::sqrt(static_cast<double>(dim));
    const auto cap = static_cast<double>(s_.options.softcap);
    double total = s_.options.sink_logits.empty() ? 0.0 : std::exp(static_cast<double>(s_.options.sink_logits[head]));
    out.output.assign(dim, 0.0);
    for (const auto& [j, far] : taken) {
      double score = scale * dot(turned(far, &rows_[t].q[head * dim]), j, kv);
      if (cap > 0.0) score = cap * std::tanh(score / cap);
      total += std::exp(score);
      for (std::size_t c = 0; c < dim; ++c)
        out.output[c] += std::exp(score) * static_cast<double>(rows_[j].v[kv * dim + c]);
    }
    for (double& x : out.output) x /= total;
    out.log_sum_exp = std::log(total);
    return out;
  }

 private:
  [[nodiscard]] std::vector<double> turned(std::size_t to, const float* row) const {
    return kvkeep::detail::turned_row(s_.rope, frequencies_, static_cast<position>(to), {row, s_.shape.head_dim});
  }
  [[nodiscard]] double dot(const std::vector<double>& q, std::size_t j, std::size_t kv) const {
    double sum = 0.0;
    for (std::size_t c = 0; c < q.size(); ++c) sum += q[c] * keys_[j * s_.shape.kv_heads + kv][c];
    return sum;
  }

  setup s_;
  kvkeep::rope_frequencies frequencies_;
  std::vector<layer_rows> rows_;           // [stream]
  std::vector<std::vector<double>> keys_;  // [stream][kv_heads][head_dim], at distance 0
};

/// A stream in random steps, some shortened, some tokens erased, of which each output is the oracle's. Which round it is, is told.
template <class Policy>
void follow(const setup& s, const Policy& policy, dice& random, std::uint64_t round) {
  SCOPED_TRACE(testing::Message() << "round " << round);
  const kvkeep::model_shape& shape = s.shape;
  const std::size_t dim = shape.head_dim;
  oracle expected(s);
  kvkeep::thread_executor threads(s.options.workers);
  auto cache = kvkeep::make_cache(shape, policy, s.options);
  kvkeep::attention_evidence<kvkeep::by_products{.log_sum_exp = true}> evidence(cache.evidence_shape());
  std::vector<numbers> windows{{}};  // of the queries of a step, the one before them first
  for (std::size_t first = 0; first < stream;) {
    const std::size_t n = random.between(1, std::min(s.options.max_step, stream - first));
    layer_rows rows = rows_of(shape, 0, static_cast<position>(first), n);
    auto step = cache.begin(n);
    step.attend(0, view(std::as_const(rows.q), n, shape.query_heads, dim),
                view(std::as_const(rows.k), n, shape.kv_heads, dim),
                view(std::as_const(rows.v), n, shape.kv_heads, dim), view(rows.out, n, shape.query_heads, dim),
                evidence, threads);
    for (std::size_t t = 0; t < n; ++t) {
      windows.push_back(expected.window_of(first + t, windows.back()));
      for (std::size_t h = 0; h < shape.query_heads; ++h) {
        const auto mine = expected.read(first + t, h, windows.back());
        for (std::size_t c = 0; c < dim; ++c) {
          ASSERT_NEAR(static_cast<double>(rows.out[(t * shape.query_heads + h) * dim + c]), mine.output[c], 1e-5)
              << "token " << first + t << ", head " << h;
        }
        ASSERT_NEAR(static_cast<double>(evidence.log_sum_exp(t)[h]), mine.log_sum_exp, 1e-5);
        if (t + 1 < n) continue;
        const auto found = cache.memory().retrieved(0, h * cache.memory().choosers() / shape.query_heads);
        ASSERT_EQ(found.size(), mine.nearest.size());
        ASSERT_EQ(std::set<std::uint32_t>(found.begin(), found.end()).size(), found.size()) << "none twice";
        for (std::size_t i = 0; i < found.size(); ++i) {  // scores that a float cannot tell apart may change places
          ASSERT_TRUE(mine.scores.contains(found[i])) << "token " << first + t << ", head " << h;
          ASSERT_NEAR(mine.scores.at(found[i]), mine.scores.at(mine.nearest[i]), 2e-6)
              << "token " << first + t << ", head " << h << ", place " << i;
        }
      }
    }
    const std::size_t kept = random.chance(0.3) ? random.between(1, n) : n;
    step.commit(kept);
    windows = {windows[kept]};
    first += kept;
    if (first < 5 || !random.chance(0.4)) continue;
    const std::size_t from = random.between(0, first - 2);
    const std::size_t to = std::min(from + random.between(1, 12), first - 1);
    for (std::size_t j = from; j < to; ++j) expected.gone.insert(j);
    cache.erase(s.options.first_position + static_cast<position>(from),
                s.options.first_position + static_cast<position>(to));
  }
}

TEST(NearestKeysAtRandom, AreTheOraclesWhateverIsErased) {
  for (std::uint64_t round = 0; round < 80; ++round) {
    dice random(1000 + round);
    const setup s = random_setup(random);
    const rule_words& r = s.rule;
    follow(s,
           kvkeep::unlimiformer{.sinks = r.sinks,
                                .window = r.window,
                                .count = r.count,
                                .at = r.at,
                                .ceiling = r.ceiling,
                                .chooses = r.together ? chosen_by::kv_head : chosen_by::query_head,
                                .max_tokens = stream},
           random, round);
    if (HasFatalFailure()) return;
  }
}

TEST(MiddleKeysAtRandom, AreTheOraclesWhateverIsErased) {
  for (std::uint64_t round = 0; round < 40; ++round) {
    dice random(5000 + round);
    setup s = random_setup(random);
    s.rule.ceiling.reset();
    s.rule.together = false;
    s.rule.all_or_none = true;
    const rule_words& r = s.rule;
    follow(s,
           kvkeep::policy{kvkeep::keep{kvkeep::sinks{r.sinks}, kvkeep::recent{r.window}},
                          kvkeep::middle_top_k{.count = r.count, .at = r.at, .layers = {0, 1}, .max_tokens = stream},
                          kvkeep::beyond{r.window, r.at}, kvkeep::each_token{}},
           random, round);
    if (HasFatalFailure()) return;
  }
}

// What no key can reach is no distance that frequencies depend on.
TEST(NearestKeysAtRandom, ACeilingBeyondTheStreamIsNone) {
  const kvkeep::rope scaled{.scaling = kvkeep::dynamic_ntk_scaling{.factor = 2.0, .original_max_position = 16.0}};
  constexpr kvkeep::model_shape shape{1, 2, 1, 8};
  const auto outputs = [&](std::size_t ceiling) {
    auto cache = kvkeep::make_cache(
        shape, kvkeep::unlimiformer{.window = 4, .count = 9, .at = 3, .ceiling = ceiling, .max_tokens = 100},
        {.positions = scaled});
    return feed(cache, shape, 100);
  };
  EXPECT_EQ(outputs(99), outputs(2147483647));
  EXPECT_NE(outputs(99), outputs(50));
}

}  // namespace
}  // namespace kvkeep_test
