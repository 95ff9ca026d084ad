// approximate_keys in a cache, beside nearest_keys: recall, and that what was abandoned, rejected or cleared leaves nothing.
//
// This is the second unit of its program that includes hnsw_index.hpp: that they link is a test as well.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>

#include "clusters.hpp"
#include "kvkeep/memory/hnsw_index.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::position;

constexpr kvkeep::model_shape shape{2, 4, 2, 32};
constexpr std::size_t stream = 2600;

template <class Rule>
auto cache_of(Rule rule) {
  rule.at = 16;
  rule.max_tokens = stream;
  rule.layers = {1, 2};
  return kvkeep::make_cache(shape,
                            kvkeep::policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::recent{16}}, rule,
                                           kvkeep::beyond{16, 16}, kvkeep::each_token{}},
                            {.positions = kvkeep::no_positions{}});
}

/// Attends tokens of which each head's keys and queries are of the same clusters.
template <class Step>
std::vector<std::vector<float>> attend_clusters(Step& step, position first, std::uint64_t salt = 0) {
  static const clusters rows(shape.head_dim, 30, 0.5F);
  std::vector<std::vector<float>> outputs;
  const std::size_t n = step.tokens();
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    std::vector<float> q;
    std::vector<float> k;
    for (std::size_t t = 0; t < n; ++t) {
      const std::size_t number = (static_cast<std::size_t>(first) + t) * 8 + layer * 1000003 + salt * 7919;
      for (std::size_t h = 0; h < shape.query_heads; ++h) {
        const std::vector<float> row = rows.query(number + h);
        q.insert(q.end(), row.begin(), row.end());
      }
      for (std::size_t h = 0; h < shape.kv_heads; ++h) {
        const std::vector<float> row = rows.key(number + h);
        k.insert(k.end(), row.begin(), row.end());
      }
    }
    std::vector<float> out(q.size());
    step.attend(layer, view(std::as_const(q), n, shape.query_heads, shape.head_dim),
                view(std::as_const(k), n, shape.kv_heads, shape.head_dim),
                view(std::as_const(k), n, shape.kv_heads, shape.head_dim),
                view(out, n, shape.query_heads, shape.head_dim));
    outputs.push_back(std::move(out));
  }
  return outputs;
}
template <class Cache>
std::vector<std::vector<float>> feed_clusters(Cache& cache, std::size_t n) {
  const position first = cache.next_position();
  auto step = cache.begin(n);
  auto out = attend_clusters(step, first);
  step.commit();
  return out;
}

TEST(ApproximateKeys, AreNearlyThoseOfAScan) {
  auto exact = cache_of(kvkeep::nearest_keys{.count = 32});
  auto found = cache_of(kvkeep::approximate_keys{.count = 32});
  std::size_t hits = 0;
  std::size_t all = 0;
  for (std::size_t first = 0; first < stream;) {
    const std::size_t n = first < 2000 ? 100 : 1 + first % 13;
    if (first + n > stream) break;
    const auto expected = feed_clusters(exact, n);
    const auto outputs = feed_clusters(found, n);
    first += n;
    if (first == 2000) {  // the half of what is filed
      for (position p = 100; p < 1900; p += 40) {
        exact.erase(p, p + 20);
        found.erase(p, p + 20);
      }
    }
    for (std::size_t c = 0; c < shape.query_heads; ++c) {
      const auto wanted = exact.memory().retrieved(1, c);
      const auto mine = found.memory().retrieved(1, c);
      const std::set<std::uint32_t> ours(mine.begin(), mine.end());
      ASSERT_EQ(ours.size(), mine.size()) << "a key twice";
      ASSERT_EQ(mine.size(), wanted.size());
      bool same = true;
      for (const std::uint32_t number : wanted) {
        hits += ours.count(number);
        same = same && ours.contains(number);
        if (first > 2000 && number < 1900 && number >= 100) ASSERT_GE((number - 100) % 40, 20U);
      }
      all += wanted.size();
      if (same) EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), mine.begin())) << "in the order of the scores";
      for (std::size_t i = 0; same && n == 1 && i < shape.head_dim; ++i) {
        ASSERT_EQ(outputs[1][c * shape.head_dim + i], expected[1][c * shape.head_dim + i]);
      }
    }
  }
  const double recall = static_cast<double>(hits) / static_cast<double>(all);
  std::printf("recall@32 in a cache: %.4f\n", recall);
  EXPECT_GE(recall, 0.95);
  EXPECT_LT(all, 10000000U);
}

TEST(ApproximateKeys, AreThoseOfACacheThatNeverSawWhatWasTakenBack) {
  auto plain = cache_of(kvkeep::approximate_keys{.count = 8});
  auto tried = cache_of(kvkeep::approximate_keys{.count = 8});
  const auto expect_same = [&](std::size_t n) {
    ASSERT_EQ(feed_clusters(plain, n), feed_clusters(tried, n));
    for (std::size_t c = 0; c < shape.query_heads; ++c) {
      const auto one = plain.memory().retrieved(1, c);
      const auto other = tried.memory().retrieved(1, c);
      ASSERT_TRUE(std::equal(one.begin(), one.end(), other.begin(), other.end()));
    }
  };
  expect_same(300);
  dice random(5);
  for (int i = 0; i < 60; ++i) {
    const position next = plain.next_position();
    const std::size_t n = random.between(1, 20);
    {
      auto step = tried.begin(n);
      attend_clusters(step, next, 99);
    }
    const std::size_t count = random.between(1, n);
    static_cast<void>(feed_clusters(plain, count));
    auto step = tried.begin(n);
    attend_clusters(step, next);
    step.commit(count);
    if (i % 4 == 0) {
      const auto from = static_cast<position>(random.between(2, static_cast<std::size_t>(next) - 40));
      plain.erase(from, from + 9);
      tried.erase(from, from + 9);
    }
    expect_same(1);
    if (HasFatalFailure()) return;
  }
  tried.clear();
  plain = cache_of(kvkeep::approximate_keys{.count = 8});
  expect_same(200);
  expect_same(1);
}

TEST(ApproximateKeys, RefuseSettingsByName) {
  const auto fault = [](const kvkeep::hnsw_settings& how, std::size_t count = 4, std::size_t most = 60) {
    const auto checked = kvkeep::approximate_keys{.count = count, .max_tokens = most, .index = how}.check();
    return checked ? std::string("none") : checked.error().message();
  };
  EXPECT_EQ(fault({}), "none");
  EXPECT_EQ(fault({.links = 0}), "kvkeep: links = 0; allowed: 2 .. 256");
  EXPECT_EQ(fault({.build_width = 70000}), "kvkeep: build_width = 70000; allowed: 1 .. 65536");
  EXPECT_EQ(fault({}, 0), "kvkeep: count = 0; allowed: 1 .. max_tokens = 60");
  EXPECT_EQ(fault({}, 61), "kvkeep: count = 61; allowed: 1 .. max_tokens = 60");
  EXPECT_EQ(fault({}, 4, 0).rfind("kvkeep: max_tokens = 0", 0), 0U);
}

}  // namespace
}  // namespace kvkeep_test
