// hnsw_index by itself: what it finds beside sorting, whatever was removed, and what it refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <string>

#include "clusters.hpp"
#include "kvkeep/memory/hnsw_index.hpp"

namespace kvkeep_test {
namespace {

using numbers = std::vector<std::uint32_t>;

constexpr std::size_t dimension = 64;
constexpr std::size_t k = 32;

numbers found_by(kvkeep::hnsw_index& index, const std::vector<float>& query, std::size_t most) {
  numbers out(most);
  const auto count = index.try_search(query, most, out);
  if (!count) {
    ADD_FAILURE() << count.error().message();
    return {};
  }
  out.resize(*count);
  return out;
}

kvkeep::hnsw_index filled(const clusters& rows, std::size_t first, std::size_t last, std::size_t most) {
  auto made = kvkeep::hnsw_index::try_make({}, dimension, most);
  for (std::size_t i = first; i < last; ++i) EXPECT_TRUE(made->try_add(static_cast<std::uint32_t>(i), rows.key(i)));
  return std::move(*made);
}

/// The share of the best k that an index finds, over some queries; none of them is gone or there twice.
double recall_of(kvkeep::hnsw_index& index, const clusters& rows, std::size_t count,
                 const std::set<std::uint32_t>& gone) {
  std::size_t hits = 0;
  std::size_t all = 0;
  for (std::size_t q = 0; q < 100; ++q) {
    const std::vector<float> query = rows.query(q);
    std::vector<std::pair<double, std::uint32_t>> scores;
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!gone.contains(i)) scores.emplace_back(-dot_of(query, rows.key(i)), i);
    }
    std::sort(scores.begin(), scores.end());
    const numbers found = found_by(index, query, k);
    const std::set<std::uint32_t> mine(found.begin(), found.end());
    EXPECT_EQ(mine.size(), found.size()) << "a key twice";
    for (const std::uint32_t number : mine) EXPECT_FALSE(gone.contains(number)) << "a removed key";
    for (std::size_t i = 0; i < k; ++i) hits += mine.count(scores[i].second);
    all += k;
  }
  return static_cast<double>(hits) / static_cast<double>(all);
}

TEST(HnswIndex, FindsNearlyAllAlsoOfThoseThatAreLeft) {
  constexpr std::size_t count = 4000;
  const clusters rows(dimension, 40, 0.5F);
  auto index = filled(rows, 0, count, count);
  const double whole = recall_of(index, rows, count, {});
  std::set<std::uint32_t> gone;
  dice random(3);
  while (gone.size() < count * 2 / 5) {
    const auto number = static_cast<std::uint32_t>(random.between(0, count - 1));
    if (gone.insert(number).second) ASSERT_TRUE(index.try_remove(number));
  }
  const double left = recall_of(index, rows, count, gone);
  RecordProperty("recall_32", std::to_string(whole));
  RecordProperty("recall_32_after_removals", std::to_string(left));
  std::printf("recall@32: %.4f; of the keys that are left: %.4f\n", whole, left);
  EXPECT_GE(whole, 0.95);
  EXPECT_GE(left, 0.95);
}

TEST(HnswIndex, FindsFewerWhereThereAreFewer) {
  const clusters rows(dimension, 4, 0.5F);
  auto index = filled(rows, 0, 5, 200);
  EXPECT_EQ(found_by(index, rows.query(0), 0).size(), 0U);
  EXPECT_EQ(found_by(index, rows.query(0), k).size(), 5U);
  ASSERT_TRUE(index.try_remove(2));
  numbers found = found_by(index, rows.query(0), k);
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, (numbers{0, 1, 3, 4}));
  for (const std::uint32_t number : {0U, 1U, 3U, 4U}) ASSERT_TRUE(index.try_remove(number));
  EXPECT_TRUE(found_by(index, rows.query(0), k).empty());
}

// Keys that come when all others were removed are linked to something, and found.
TEST(HnswIndex, TakesKeysAfterAllWereRemoved) {
  const clusters rows(dimension, 10, 0.5F);
  for (const std::size_t removed : {1U, 2U, 300U}) {
    auto index = filled(rows, 0, removed, 600);
    std::set<std::uint32_t> gone;
    for (std::uint32_t i = 0; i < removed; ++i) {
      ASSERT_TRUE(index.try_remove(i));
      gone.insert(i);
    }
    for (std::uint32_t i = static_cast<std::uint32_t>(removed); i < 600; ++i) {
      ASSERT_TRUE(index.try_add(i, rows.key(i)));
      if (i < removed + 3) EXPECT_EQ(found_by(index, rows.query(1), k).size(), i + 1 - removed);
    }
    EXPECT_GE(recall_of(index, rows, 600, gone), 0.95) << removed;
    // Its first key may be gone or not: what was removed since stays removed.
    for (std::uint32_t i = static_cast<std::uint32_t>(removed); i < 599; ++i) ASSERT_TRUE(index.try_remove(i));
    EXPECT_EQ(found_by(index, rows.query(2), k), numbers{599});
  }
}

TEST(HnswIndex, IsTheSameEachTime) {
  const clusters rows(dimension, 20, 0.5F);
  auto one = filled(rows, 0, 1000, 1000);
  auto other = filled(rows, 1000, 1700, 1000);
  ASSERT_TRUE(other.try_remove(1200));
  ASSERT_TRUE(other.try_clear());
  EXPECT_TRUE(found_by(other, rows.query(0), k).empty());
  for (std::uint32_t i = 0; i < 1000; ++i) ASSERT_TRUE(other.try_add(i, rows.key(i)));
  for (std::size_t q = 0; q < 50; ++q) EXPECT_EQ(found_by(one, rows.query(q), k), found_by(other, rows.query(q), k));
}

TEST(HnswIndex, PutsWhatIsNotANumberLast) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  auto index = *kvkeep::hnsw_index::try_make({}, 2, 100);
  for (std::uint32_t i = 0; i < 60; ++i) {
    const float x = i % 3 == 0 ? nan : i % 3 == 1 ? static_cast<float>(i) : -std::numeric_limits<float>::infinity();
    ASSERT_TRUE(index.try_add(i, std::vector<float>{x, 1.0F}));
  }
  for (const std::uint32_t number : found_by(index, {1.0F, 0.0F}, 20)) EXPECT_EQ(number % 3, 1U);
  EXPECT_EQ(found_by(index, {nan, 0.0F}, 100).size(), 60U);
}

TEST(HnswIndex, RefusesWhatCannotBe) {
  using settings = kvkeep::hnsw_settings;
  const auto fault = [](const settings& how, std::size_t dim = 4, std::size_t most = 10) {
    const auto made = kvkeep::hnsw_index::try_make(how, dim, most);
    return made ? std::string("none") : made.error().message();
  };
  EXPECT_EQ(fault({}), "none");
  EXPECT_EQ(fault({.links = 1}), "kvkeep: links = 1; allowed: 2 .. 256");
  EXPECT_EQ(fault({.links = 257}), "kvkeep: links = 257; allowed: 2 .. 256");
  EXPECT_EQ(fault({.build_width = 0}), "kvkeep: build_width = 0; allowed: 1 .. 65536");
  EXPECT_EQ(fault({.search_width = 0}), "kvkeep: search_width = 0; allowed: 1 .. 65536");
  EXPECT_EQ(fault({.search_width = 65537}), "kvkeep: search_width = 65537; allowed: 1 .. 65536");
  EXPECT_EQ(fault({}, 0), "kvkeep: dimension = 0; allowed: >= 1");
  EXPECT_EQ(fault({}, 4, 0), "kvkeep: most = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(fault({}, 4, std::size_t{1} << 31), "kvkeep: most = 2147483648; allowed: 1 .. 2147483647");

  auto index = *kvkeep::hnsw_index::try_make({}, 2, 2);
  const std::vector<float> row{1.0F, 2.0F};
  const std::vector<float> longer{1.0F, 2.0F, 3.0F};
  numbers found(1);
  EXPECT_EQ(index.try_add(0, longer).error().message(), "kvkeep: key = 3 floats; allowed: dimension = 2");
  EXPECT_EQ(index.try_search(longer, 1, found).error().message(), "kvkeep: query = 3 floats; allowed: dimension = 2");
  EXPECT_EQ(index.try_search(row, 2, found).error().message(), "kvkeep: found = 1 elements; allowed: >= k = 2");
  EXPECT_EQ(index.try_remove(0).error().argument(), "index");
  ASSERT_TRUE(index.try_add(0, row));
  ASSERT_TRUE(index.try_add(1, row));
  EXPECT_EQ(index.try_add(2, row).error().code(), kvkeep::errc::capacity);
}

}  // namespace
}  // namespace kvkeep_test
