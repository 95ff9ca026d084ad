// nearest_keys and unlimiformer: against plain sorting and a plain softmax; whatever is erased, abandoned or not a number.
#include "kvkeep/policy/select/nearest_keys.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::chosen_by;
using kvkeep::position;
using kvkeep::unlimiformer;
using numbers = std::vector<std::uint32_t>;

const kvkeep::rope rotary{.theta = 100.0};
constexpr kvkeep::model_shape shape{2, 6, 2, 8};
constexpr std::size_t stream = 150;

/// Attention of one token in words: what it reads is sorted, and what comes out is a softmax in double.
class slow_attention {
 public:
  slow_attention(const unlimiformer& policy, const kvkeep::position_encoding& positions)
      : policy_(policy), positions_(positions) {
    if (const auto* turned = std::get_if<kvkeep::rope>(&positions))
      frequencies_ = *kvkeep::try_rope_frequencies(*turned, shape.head_dim, 0);
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      for (std::size_t j = 0; j < stream; ++j) rows_.push_back(rows_of(shape, layer, static_cast<position>(j), 1));
    }
  }

  /// The keys that the chooser of a head reads of those before the window, best first.
  [[nodiscard]] numbers nearest(std::size_t layer, std::size_t t, std::size_t head) const {
    if (layer < policy_.first_layer || layer >= policy_.last_layer) return {};
    std::vector<std::pair<double, std::uint32_t>> scores;  // negative, so that the largest comes first
    for (std::size_t j = policy_.sinks; j + policy_.window <= t; ++j) {
      if (gone.contains(j)) continue;
      double sum = 0;
      const bool together = policy_.chooses == chosen_by::kv_head;
      const std::size_t kv = head / shape.group();
      for (std::size_t h = together ? kv * shape.group() : head; h < (together ? (kv + 1) * shape.group() : head + 1);
           ++h) {
        sum -= score(layer, t, j, h, distance());
      }
      scores.emplace_back(sum, static_cast<std::uint32_t>(j));
    }
    std::sort(scores.begin(), scores.end());
    numbers out;
    for (std::size_t k = 0; k < std::min(policy_.count.value_or(policy_.window), scores.size()); ++k)
      out.push_back(scores[k].second);
    return out;
  }
  [[nodiscard]] std::vector<double> output(std::size_t layer, std::size_t t, std::size_t head) const {
    std::vector<std::pair<std::size_t, std::size_t>> read;  // stream number, distance
    for (std::size_t j = 0; j <= t; ++j) {
      if (gone.contains(j)) continue;
      if (j + policy_.window > t)
        read.emplace_back(j, t - j);
      else if (j < policy_.sinks)
        read.emplace_back(j, distance());
    }
    for (const std::uint32_t j : nearest(layer, t, head))
      read.emplace_back(j, policy_.ceiling ? std::min(t - j, *policy_.ceiling) : distance());
    std::vector<double> out(shape.head_dim, 0.0);
    double total = 0;
    for (const auto& [j, far] : read) {
      const double weight = std::exp(score(layer, t, j, head, far) / std::sqrt(static_cast<double>(shape.head_dim)));
      const layer_rows& row = rows_[layer * stream + j];
      for (std::size_t c = 0; c < shape.head_dim; ++c) {
        out[c] += weight * static_cast<double>(row.v[head / shape.group() * shape.head_dim + c]);
      }
      total += weight;
    }
    for (double& x : out) x /= total;
    return out;
  }

  std::set<std::size_t> gone{};  ///< stream numbers that were erased

 private:
  [[nodiscard]] std::size_t distance() const { return policy_.at.value_or(policy_.window); }
  [[nodiscard]] double score(std::size_t layer, std::size_t t, std::size_t j, std::size_t head, std::size_t far) const {
    const layer_rows& query = rows_[layer * stream + t];
    const layer_rows& key = rows_[layer * stream + j];
    const std::span<const float> q(query.q.data() + head * shape.head_dim, shape.head_dim);
    std::vector<double> turned(q.begin(), q.end());
    if (const auto* rope = std::get_if<kvkeep::rope>(&positions_))
      turned = kvkeep::detail::turned_row(*rope, frequencies_, static_cast<position>(far), q);
    double dot = 0;
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      dot += turned[c] * static_cast<double>(key.k[head / shape.group() * shape.head_dim + c]);
    }
    return dot;
  }

  unlimiformer policy_;
  kvkeep::position_encoding positions_;
  kvkeep::rope_frequencies frequencies_{};
  std::vector<layer_rows> rows_;  // [layers][stream]
};

template <class Cache>
void expect_slow(const Cache& cache, const slow_attention& slow, const std::vector<std::vector<float>>& outputs,
                 std::size_t first, std::size_t n) {
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t h = 0; h < shape.query_heads; ++h) {
        const std::vector<double> expected = slow.output(layer, first + i, h);
        const std::span<const float> row(outputs[layer].data() + (i * shape.query_heads + h) * shape.head_dim,
                                         shape.head_dim);
        ASSERT_LT(max_difference(row, expected), 2e-6)
            << "layer " << layer << ", token " << first + i << ", head " << h;
      }
    }
    for (std::size_t h = 0; h < shape.query_heads; ++h) {
      const auto read = cache.memory().retrieved(layer, h * cache.memory().choosers() / shape.query_heads);
      ASSERT_EQ(numbers(read.begin(), read.end()), slow.nearest(layer, first + n - 1, h))
          << "layer " << layer << ", token " << first + n - 1 << ", head " << h;
    }
  }
}

TEST(NearestKeys, AreThoseOfLargestScoreInAnySteps) {
  for (const chosen_by chooses : {chosen_by::query_head, chosen_by::kv_head}) {
    for (const unlimiformer& policy :
         {unlimiformer{.sinks = 3, .window = 10, .count = 7, .at = 5, .first_layer = 1},
          unlimiformer{.window = 1, .count = 20}, unlimiformer{.sinks = 1, .window = 30, .count = 1, .last_layer = 1},
          unlimiformer{.sinks = 2, .window = 10, .count = 20, .at = 5, .ceiling = 40},
          unlimiformer{.window = 9, .count = 20, .at = 50, .ceiling = 3},
          unlimiformer{.window = 1, .count = 20, .at = 0, .ceiling = stream}}) {
      unlimiformer mine = policy;
      mine.chooses = chooses;
      mine.max_tokens = stream;
      const slow_attention slow(mine, rotary);
      for (const std::size_t most : {stream, std::size_t{1}, std::size_t{23}}) {
        auto cache = kvkeep::make_cache(shape, mine, {.positions = rotary});
        EXPECT_EQ(cache.memory().choosers(), chooses == chosen_by::kv_head ? 2U : 6U);
        for (std::size_t first = 0; first < stream;) {
          const std::size_t n = std::min(most, stream - first);
          const auto outputs = feed(cache, shape, n);
          if (most == 1 && first % 9 != 0) {  // the slow one is slow
            first += n;
            continue;
          }
          expect_slow(cache, slow, outputs, first, n);
          if (HasFatalFailure()) return;
          first += n;
        }
      }
    }
  }
}

// A head that may read as many keys as there are is dense: without positions the same as dense itself.
TEST(NearestKeys, AllOfThemAreDense) {
  for (const chosen_by chooses : {chosen_by::query_head, chosen_by::kv_head}) {
    const unlimiformer all{.window = 1, .count = stream, .chooses = chooses, .max_tokens = stream};
    auto ours = kvkeep::make_cache(shape, all, {.positions = kvkeep::no_positions{}});
    auto dense = kvkeep::make_cache(shape, kvkeep::dense{.max_tokens = stream}, {.positions = kvkeep::no_positions{}});
    for (std::size_t n : {1U, 100U, 40U}) {
      const auto mine = feed(ours, shape, n);
      const auto expected = feed(dense, shape, n);
      for (std::size_t l = 0; l < shape.layers; ++l) EXPECT_LT(max_difference(mine[l], expected[l]), 2e-6);
    }
  }
}

// What is left out changes an output by no more than twice its share of the attention times the largest value.
TEST(NearestKeys, LeaveOutNoMoreThanTheirShare) {
  const unlimiformer few{.window = 1, .count = 12, .at = 0, .max_tokens = stream};
  const unlimiformer all{.window = 1, .count = stream, .at = 0, .max_tokens = stream};
  auto some = kvkeep::make_cache(shape, few, {.positions = kvkeep::no_positions{}});
  auto dense = kvkeep::make_cache(shape, all, {.positions = kvkeep::no_positions{}});
  const auto ours = feed(some, shape, stream);
  const auto theirs = feed(dense, shape, stream);
  const std::size_t t = stream - 1;
  double largest = 0;
  for (std::size_t h = 0; h < shape.query_heads; ++h) {
    const layer_rows query = rows_of(shape, 1, static_cast<position>(t), 1);
    const auto read = some.memory().retrieved(1, h);
    double total = 0;
    double held = 0;
    double value = 0;
    for (std::size_t j = 0; j <= t; ++j) {
      const layer_rows row = rows_of(shape, 1, static_cast<position>(j), 1);
      double dot = 0;
      for (std::size_t c = 0; c < shape.head_dim; ++c) {
        const std::size_t at = h / shape.group() * shape.head_dim + c;
        dot += static_cast<double>(query.q[h * shape.head_dim + c]) * static_cast<double>(row.k[at]);
        value = std::max(value, std::abs(static_cast<double>(row.v[at])));
      }
      const double weight = std::exp(dot / std::sqrt(static_cast<double>(shape.head_dim)));
      total += weight;
      if (j == t || std::count(read.begin(), read.end(), j) > 0) held += weight;
    }
    const double bound = 2.0 * (1.0 - held / total) * value;
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      const std::size_t at = (t * shape.query_heads + h) * shape.head_dim + c;
      const double difference = std::abs(static_cast<double>(ours[1][at]) - static_cast<double>(theirs[1][at]));
      largest = std::max(largest, difference);
      EXPECT_LE(difference, bound + 1e-5);
    }
  }
  EXPECT_GT(largest, 0.01) << "something was left out";
}

TEST(NearestKeys, AreNotThoseThatWereErasedOrAbandoned) {
  for (const chosen_by chooses : {chosen_by::query_head, chosen_by::kv_head}) {
    const unlimiformer policy{.sinks = 2, .window = 8, .count = 30, .at = 5, .chooses = chooses, .max_tokens = stream};
    slow_attention slow(policy, rotary);
    auto cache = kvkeep::make_cache(shape, policy, {.positions = rotary});
    dice random(3);
    while (cache.next_position() < 130) {
      const position next = cache.next_position();
      const std::size_t n = random.between(1, 12);
      {
        auto step = cache.begin(n);
        attend_all(step, shape, next, 99);
      }
      const std::size_t count = random.between(1, n);
      auto step = cache.begin(n);
      const auto outputs = attend_all(step, shape, next);
      expect_slow(cache, slow, outputs, static_cast<std::size_t>(next), n);
      if (HasFatalFailure()) return;
      step.commit(count);
      if (!random.chance(0.5)) continue;
      if (cache.next_position() < 10) continue;
      const auto behind = static_cast<std::size_t>(cache.next_position()) - policy.window;
      const auto from = static_cast<position>(random.between(0, behind - 1));
      const position to = std::min(from + 7, static_cast<position>(behind));
      for (position p = from; p < to; ++p) slow.gone.insert(static_cast<std::size_t>(p));
      cache.erase(from, to);
    }
    EXPECT_GT(slow.gone.size(), 20U);
    cache.clear();
    slow.gone.clear();
    expect_slow(cache, slow, feed(cache, shape, 60), 0, 60);
  }
}

// A score that is not a number is the last choice, but the keys that were erased are none.
TEST(NearestKeys, AreFoundBesideScoresThatAreNotNumbers) {
  const kvkeep::model_shape one{1, 1, 1, 4};
  auto cache = kvkeep::make_cache(one, unlimiformer{.window = 2, .count = 5, .at = 0, .max_tokens = 40},
                                  {.positions = kvkeep::no_positions{}});
  const auto put = [&](float key) {
    const std::vector<float> q{1, 0, 0, 0};
    const std::vector<float> k{key, 0, 0, 0};
    const std::vector<float> v{1, 2, 3, 4};
    std::vector<float> out(4);
    auto step = cache.begin(1);
    step.attend(0, view(q, 1, 1, 4), view(k, 1, 1, 4), view(v, 1, 1, 4), view(out, 1, 1, 4));
    step.commit();
    const auto read = cache.memory().retrieved(0, 0);
    return numbers(read.begin(), read.end());
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float key : {0.5F, 1.5F, -1.0F, 3.0F, 2.0F, 9.0F, 7.0F, nan, 0.0F}) put(key);
  EXPECT_EQ(put(0.0F), (numbers{5, 6, 3, 4, 1}));
  cache.erase(5, 7);
  EXPECT_EQ(put(0.0F), (numbers{3, 4, 1, 0, 8}));
  cache.erase(8, 9);
  cache.erase(3, 4);
  EXPECT_EQ(put(0.0F), (numbers{4, 1, 0, 9, 2}));
  cache.erase(9, 10);
  cache.erase(4, 5);
  EXPECT_EQ(put(0.0F), (numbers{1, 0, 10, 2, 7})) << "7 is not a number, but it is there";
}

/// What the first query head chose of keys that are all equal, in steps of so many tokens.
template <class Policy>
numbers chosen_of_equals(const Policy& policy, std::size_t most) {
  const kvkeep::model_shape wide{1, 2, 1, 128};
  auto cache = kvkeep::make_cache(wide, policy, {.positions = rotary, .max_step = 64});
  const layer_rows one = rows_of(wide, 0, 0, 1);
  for (std::size_t first = 0; first < 64; first += most) {
    std::vector<float> q, k, v, out(most * 2 * 128);
    for (std::size_t t = 0; t < most; ++t) {
      q.insert(q.end(), one.q.begin(), one.q.end());
      k.insert(k.end(), one.k.begin(), one.k.end());
      v.insert(v.end(), one.v.begin(), one.v.end());
    }
    auto step = cache.begin(most);
    step.attend(0, view(q, most, 2, 128), view(k, most, 1, 128), view(v, most, 1, 128), view(out, most, 2, 128));
    step.commit();
  }
  const auto read = cache.memory().retrieved(0, 0);
  return {read.begin(), read.end()};
}

// Whether a key was filed before the step, or leaves the window in it, makes no difference to its score.
TEST(NearestKeys, OfEqualScoreAreTheOldestInAnySteps) {
  for (const std::size_t most : {1U, 32U, 64U}) {
    EXPECT_EQ(chosen_of_equals(unlimiformer{.window = 2, .count = 3, .max_tokens = 64}, most), (numbers{0, 1, 2}));
    EXPECT_EQ(
        chosen_of_equals(unlimiformer{.window = 2, .count = 3, .chooses = chosen_by::kv_head, .max_tokens = 64}, most),
        (numbers{0, 1, 2}));
    EXPECT_EQ(
        chosen_of_equals(
            kvkeep::lm_infinite::middle{.sinks = 0, .window = 2, .count = 3, .first_layer = 0, .max_tokens = 64}, most),
        (numbers{0, 1, 2}));
  }
}

TEST(NearestKeys, RefuseWhatCannotBe) {
  const auto fault = [](const unlimiformer& policy) {
    const auto made = kvkeep::try_make_cache(shape, policy, {.positions = rotary});
    return made ? std::string("none") : made.error().message();
  };
  EXPECT_EQ(fault({.count = 60, .max_tokens = 60}), "none");
  EXPECT_EQ(fault({.count = 61, .max_tokens = 60}), "kvkeep: count = 61; allowed: 1 .. max_tokens = 60");
  EXPECT_NE(fault({.count = 0, .max_tokens = 60}).find("count = 0"), std::string::npos);
  EXPECT_EQ(fault({.max_tokens = 60}), "none") << "as many as there are";
  EXPECT_NE(fault({.count = 1}).find("max_tokens = 0"), std::string::npos);
  EXPECT_NE(fault({.window = 0, .count = 1, .max_tokens = 60}).find("window = 0"), std::string::npos);
  EXPECT_NE(fault({.count = 1, .first_layer = 2, .last_layer = 2, .max_tokens = 60}).find("last_layer = 2"),
            std::string::npos);
  EXPECT_NE(fault({.count = 1, .chooses = chosen_by::layer, .max_tokens = 60}).find("chooses"), std::string::npos);

  const auto nowhere = kvkeep::try_make_cache(shape, unlimiformer{.count = 2, .ceiling = 9, .max_tokens = 60},
                                              {.positions = kvkeep::no_positions{}});
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().message(),
            "kvkeep: ceiling = 9; allowed: none with no_positions: nothing depends on a distance");

  const kvkeep::nearest_keys rule{.count = 2, .max_tokens = 60};
  EXPECT_TRUE(rule.check());
  EXPECT_NE(kvkeep::nearest_keys({.count = 0, .max_tokens = 60}).check().error().message().find("count = 0"),
            std::string::npos);
  EXPECT_NE(kvkeep::nearest_keys({.count = 2, .max_tokens = 1}).check().error().message().find("count = 2"),
            std::string::npos);
  EXPECT_EQ(kvkeep::nearest_keys({.count = 2, .max_tokens = 9, .chooses = chosen_by::layer}).check().error().message(),
            "kvkeep: chooses = layer; allowed: query_head or kv_head");
  EXPECT_EQ(kvkeep::nearest_keys({.count = 2, .max_tokens = 9, .ceiling = 2147483648}).check().error().argument(),
            "ceiling");
  EXPECT_EQ(
      kvkeep::middle_top_k({.max_tokens = 9, .rows = static_cast<kvkeep::step_rows>(7)}).check().error().message(),
      "kvkeep: rows = 7; allowed: every or last");
  const auto with = [&](std::size_t window, auto when) {
    const auto made = kvkeep::try_make_cache(
        shape,
        kvkeep::policy{kvkeep::keep{kvkeep::sinks{1}, kvkeep::recent{9}}, rule, kvkeep::beyond{window, window}, when},
        {.positions = rotary});
    return made ? std::string("none") : made.error().message();
  };
  EXPECT_EQ(with(9, kvkeep::each_token{}), "none");
  EXPECT_EQ(with(8, kvkeep::each_token{}), "kvkeep: beyond.window = 8; allowed: recent.count = 9");
  EXPECT_EQ(with(9, kvkeep::after_step{}), "kvkeep: nearest_keys goes with each_token only");
}

}  // namespace
}  // namespace kvkeep_test
