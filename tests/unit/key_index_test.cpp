// basic_nearest_keys with an index of one's own: beside the scan, and beside what indexes may and may not do.
#include "kvkeep/core/key_index.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::chosen_by;
using kvkeep::position;
using numbers = std::vector<std::uint32_t>;

constexpr kvkeep::model_shape shape{3, 6, 2, 8};
constexpr std::size_t stream = 150;

/// What an index is to do wrong.
struct trouble {
  bool make = false;
  bool add = false;
  bool search = false;
};

/// Adds and removals of all indexes of a cache, in order: number + 1, and -(number + 1).
std::vector<int> logs[3];

/// An index that looks at every key.
class listed_keys {
 public:
  struct settings {
    std::uint32_t missed = 0;  ///< every so many numbers are not found; 0: all are
    bool careless = false;     ///< finds everything twice, removed keys too, and a number that never was
    trouble* fails = nullptr;
    std::size_t log = 0;  ///< the one that it writes to; 0: none

    [[nodiscard]] kvkeep::result<void> check() const {
      if (missed != 1) return {};
      return kvkeep::detail::bad_argument("missed", missed, "0 or >= 2");
    }
  };
  static std::size_t bytes(const settings&, std::size_t dimension, std::size_t most) { return 5 * dimension * most; }
  static kvkeep::result<listed_keys> try_make(const settings& how, std::size_t, std::size_t) {
    if (how.fails != nullptr && how.fails->make) return failure("make");
    listed_keys made;
    made.how_ = how;
    return made;
  }
  kvkeep::result<void> try_add(std::uint32_t number, std::span<const float> key) {
    if (how_.fails != nullptr && how_.fails->add) return failure("add");
    note(static_cast<int>(number) + 1);
    keys_.push_back({number, true, {key.begin(), key.end()}});
    return {};
  }
  kvkeep::result<void> try_remove(std::uint32_t number) {
    note(-static_cast<int>(number) - 1);
    for (entry& e : keys_) {
      if (e.number == number) e.there = false;
    }
    return {};
  }
  kvkeep::result<std::size_t> try_search(std::span<const float> query, std::size_t k, std::span<std::uint32_t> found) {
    if (how_.fails != nullptr && how_.fails->search) return failure("search");
    std::vector<std::pair<float, std::uint32_t>> scores;
    if (how_.careless) scores.emplace_back(-1e9F, 4000000U);
    for (const entry& e : keys_) {
      if (!e.there && !how_.careless) continue;
      if (how_.missed != 0 && e.number % how_.missed == 0) continue;
      float dot = 0;
      for (std::size_t c = 0; c < query.size(); ++c) dot += query[c] * e.key[c];
      for (int i = 0; i < (how_.careless ? 2 : 1); ++i) scores.emplace_back(-dot, e.number);
    }
    std::sort(scores.begin(), scores.end());
    const std::size_t count = std::min(k, scores.size());
    for (std::size_t i = 0; i < count; ++i) found[count - 1 - i] = scores[i].second;  // in any order
    return count;
  }
  kvkeep::result<void> try_clear() {
    keys_.clear();
    return {};
  }

 private:
  struct entry {
    std::uint32_t number;
    bool there;
    std::vector<float> key;
  };
  static kvkeep::error failure(const char* what) {
    return kvkeep::detail::make_error(kvkeep::errc::capacity, "index", std::string(what) + " failed");
  }
  void note(int what) const {
    if (how_.log != 0) logs[how_.log].push_back(what);
  }

  settings how_{};
  std::vector<entry> keys_{};
};
static_assert(kvkeep::key_index<listed_keys>);
static_assert(!kvkeep::key_index<kvkeep::exact_scan>);

using listed = kvkeep::basic_nearest_keys<listed_keys>;

template <class Rule>
auto policy_of(Rule rule) {
  rule.at = 5;
  rule.max_tokens = stream;
  rule.layers = {1, 3};
  return kvkeep::policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::recent{8}}, rule, kvkeep::beyond{8, 5},
                        kvkeep::each_token{}};
}
template <class KeyCodec = kvkeep::f32, class Rule>
auto cache_of(const Rule& rule) {
  return kvkeep::make_cache<KeyCodec, kvkeep::f32>(shape, policy_of(rule), {.positions = kvkeep::rope{.theta = 100.0}});
}
template <class Cache>
std::vector<numbers> read_in(const Cache& cache) {
  std::vector<numbers> out;
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    for (std::size_t c = 0; c < cache.memory().choosers(); ++c) {
      const auto read = cache.memory().retrieved(layer, c);
      out.emplace_back(read.begin(), read.end());
    }
  }
  return out;
}

template <class KeyCodec>
void expect_the_scan(chosen_by chooses, std::size_t most) {
  auto scanned = cache_of<KeyCodec>(kvkeep::nearest_keys{.count = 7, .chooses = chooses});
  auto found = cache_of<KeyCodec>(listed{.count = 7, .chooses = chooses});
  dice random(5);
  for (std::size_t first = 0; first < stream;) {
    const std::size_t n = std::min(random.between(1, most), stream - first);
    ASSERT_EQ(feed(scanned, shape, n), feed(found, shape, n));
    ASSERT_EQ(read_in(scanned), read_in(found)) << "token " << first;
    first += n;
    if (first < 30 || !random.chance(0.3)) continue;
    const auto from = static_cast<position>(random.between(0, first - 10));
    scanned.erase(from, from + 4);
    found.erase(from, from + 4);
  }
}

TEST(KeyIndex, ThatFindsAllReadsWhatAScanReads) {
  for (const chosen_by chooses : {chosen_by::query_head, chosen_by::kv_head}) {
    for (const std::size_t most : {1U, 40U}) {
      expect_the_scan<kvkeep::f32>(chooses, most);
      expect_the_scan<kvkeep::f16>(chooses, most);
    }
  }
}

// What is missed is not read, and nothing is read in its place twice.
TEST(KeyIndex, ThatMissesKeysMakesNoOthersOfThem) {
  auto all = cache_of(kvkeep::nearest_keys{.count = stream});  // reads all, best first
  auto found = cache_of(listed{.count = 12, .index = {.missed = 3}});
  for (std::size_t first = 0; first < stream; ++first) {
    static_cast<void>(feed(all, shape, 1));
    static_cast<void>(feed(found, shape, 1));
    if (first < 30) continue;
    const auto every = read_in(all);
    const auto mine = read_in(found);
    for (std::size_t c = 0; c < mine.size(); ++c) {
      numbers expected;
      for (const std::uint32_t number : every[c]) {
        const bool in_index = number + 8 < first;  // the token that just left the window is not filed yet
        if (in_index && (number - 2) % 3 == 0) continue;
        if (expected.size() < 12) expected.push_back(number);
      }
      ASSERT_EQ(mine[c], expected) << "token " << first;
    }
  }
}

TEST(KeyIndex, ThatFindsKeysTwiceOrRemovedOnesIsNotBelieved) {
  auto cache = cache_of(listed{.count = 20, .index = {.careless = true}});
  static_cast<void>(feed(cache, shape, 100));
  cache.erase(10, 60);
  static_cast<void>(feed(cache, shape, 1));
  for (const numbers& read : read_in(cache)) {
    EXPECT_EQ(std::set<std::uint32_t>(read.begin(), read.end()).size(), read.size());
    EXPECT_LE(read.size(), 20U);
    for (const std::uint32_t number : read) {
      EXPECT_TRUE(number >= 2 && (number < 10 || number >= 60) && number < 101) << number;
    }
  }
}

TEST(KeyIndex, HearsOfNothingThatWasAbandonedOrRejected) {
  for (std::vector<int>& log : logs) log.clear();
  auto plain = cache_of(listed{.count = 9, .index = {.log = 1}});
  auto tried = cache_of(listed{.count = 9, .index = {.log = 2}});
  dice random(11);
  while (plain.next_position() < 120) {
    const position next = plain.next_position();
    const std::size_t n = random.between(1, 12);
    const std::size_t count = random.between(1, n);
    const auto expected = feed(plain, shape, count);
    if (random.chance(0.6)) {
      auto step = tried.begin(n);
      attend_all(step, shape, next, 99);
    }
    auto step = tried.begin(n);
    const auto outputs = attend_all(step, shape, next);
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      ASSERT_TRUE(std::equal(expected[layer].begin(), expected[layer].end(), outputs[layer].begin()));
    }
    step.commit(count);
    if (next < 30 || !random.chance(0.3)) continue;
    const auto from = static_cast<position>(random.between(0, static_cast<std::size_t>(next) - 20));
    plain.erase(from, from + 5);
    tried.erase(from, from + 5);
  }
  EXPECT_EQ(logs[1], logs[2]);
  EXPECT_GT(std::count_if(logs[1].begin(), logs[1].end(), [](int what) { return what < 0; }), 20);
  plain.clear();
  auto fresh = cache_of(listed{.count = 9});
  EXPECT_EQ(feed(plain, shape, 60), feed(fresh, shape, 60));
}

TEST(KeyIndex, ThatFailsIsAnErrorUntilItIsCleared) {
  trouble fails;
  auto cache = cache_of(listed{.count = 9, .index = {.fails = &fails}});
  static_cast<void>(feed(cache, shape, 40));
  {
    auto step = cache.begin(1);
    const layer_rows rows = rows_of(shape, 0, 40, 1);
    std::vector<float> out(rows.out);
    const auto attend = [&](std::size_t layer) {
      return step.try_attend(layer, view(rows.q, 1, 6, 8), view(rows.k, 1, 2, 8), view(rows.v, 1, 2, 8),
                             view(out, 1, 6, 8));
    };
    ASSERT_TRUE(attend(0)) << "it is not read in layer 0";
    fails.search = true;
    EXPECT_EQ(attend(1).error().message(), "kvkeep: search failed");
    fails.search = false;
    EXPECT_TRUE(attend(1)) << "the step is as it was";
    EXPECT_TRUE(attend(2));
    fails.add = true;
    EXPECT_TRUE(step.try_commit());
  }
  EXPECT_EQ(cache.next_position(), 41);
  const auto refused = cache.try_begin(1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().argument(), "index");
  EXPECT_EQ(refused.error().code(), kvkeep::errc::capacity);
  EXPECT_NE(refused.error().message().find("clear()"), std::string::npos);
  EXPECT_NE(refused.error().message().find("add failed"), std::string::npos);
  fails.add = false;
  EXPECT_FALSE(cache.try_begin(1));
  cache.clear();
  auto fresh = cache_of(listed{.count = 9});
  EXPECT_EQ(feed(cache, shape, 60), feed(fresh, shape, 60));

  fails.make = true;
  const auto made = kvkeep::try_make_cache(shape, policy_of(listed{.count = 9, .index = {.fails = &fails}}), {});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message(), "kvkeep: make failed");
}

TEST(KeyIndex, IsPartOfWhatARuleChecksAndOfItsBytes) {
  const auto wrong = kvkeep::try_make_cache(shape, policy_of(listed{.count = 9, .index = {.missed = 1}}), {});
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().message(), "kvkeep: missed = 1; allowed: 0 or >= 2");

  const auto with = cache_of(listed{.count = 9}).bytes();
  const auto scanned = cache_of(kvkeep::nearest_keys{.count = 9}).bytes();
  const std::size_t indexes = 2 * 2 * 5 * 8 * 160;  // layers, kv heads, what one takes for 148 rows in blocks of 16
  EXPECT_EQ(with.memory, indexes + scanned.memory + 64) << "the indexes, and a cache line for 9 found rows";
  EXPECT_EQ(with.total, with.keys + with.values + with.tables + with.memory + with.staging + with.scratch);
}

}  // namespace
}  // namespace kvkeep_test
