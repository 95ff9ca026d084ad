// Patterns as retain rules: those of users, the length of a stream, messages, and every mistake by name.
#include <gtest/gtest.h>

#include <bit>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::position;
using positions = std::vector<position>;

/// A user's pattern: even tokens are read up to 3 later, odd ones by the second query after them. Its readers are looked for.
struct odd_and_even {
  std::size_t most = 50;
  [[nodiscard]] bool reads(position q, position k) const { return q == k || (k % 2 == 0 ? q - k <= 3 : q - k == 2); }
  [[nodiscard]] std::size_t longest() const { return most; }
};

/// The same, and it knows who reads a token last.
struct odd_and_even_told {
  [[nodiscard]] bool reads(position q, position k) const { return odd_and_even{}.reads(q, k); }
  [[nodiscard]] position last_reader(position k) const { return k + (k % 2 == 0 ? 3 : 2); }
  [[nodiscard]] kvkeep::pattern_need needs() const { return kvkeep::pattern_need::bounded; }
  [[nodiscard]] std::size_t most_needed(std::size_t tokens) const { return std::min<std::size_t>(4, tokens); }
};

/// A user's pattern that differs by layer: layer l reads the l + 1 newest tokens.
struct layer_windows {
  std::size_t layers = 3;
  [[nodiscard]] std::size_t variants() const { return layers; }
  [[nodiscard]] std::size_t variant(const kvkeep::unit_place& place) const { return place.layer; }
  [[nodiscard]] bool reads(std::size_t v, position q, position k) const { return q - k <= static_cast<position>(v); }
  [[nodiscard]] std::size_t longest() const { return 40; }
  [[nodiscard]] kvkeep::scope scope() const { return kvkeep::scope::layer; }
};

/// A pattern over a store that keeps everything, for short streams only.
struct short_pattern {
  [[nodiscard]] bool reads(position, position) const { return true; }
  [[nodiscard]] std::size_t longest() const { return 10; }
};

template <class Planner>
void take(Planner& plan, std::size_t n) {
  plan.begin(n);
  plan.commit();
}

TEST(StillReadOfUsers, FreesByLookingForReadersOrByBeingTold) {
  const auto run = [](const auto& pattern, position first) {
    auto plan = kvkeep::make_planner({1, 1, 1, 8}, kvkeep::policy{kvkeep::still_read{pattern}, pattern},
                                     {.max_step = 8, .first_position = first});
    std::vector<positions> all;
    for (int i = 0; i < 12; ++i) {
      take(plan, 1);
      all.push_back(plan.held());
    }
    return all;
  };
  for (const position first : {position{0}, position{1000}}) {
    const auto searched = run(odd_and_even{}, first);
    EXPECT_EQ(searched[5], (positions{first + 2, first + 3, first + 4, first + 5}));
    EXPECT_EQ(searched[6], (positions{first + 4, first + 5, first + 6}));
    EXPECT_EQ(searched, run(odd_and_even_told{}, first));
  }
}

TEST(StillReadOfUsers, KeepsByLayer) {
  const layer_windows p;
  auto plan = kvkeep::make_planner({3, 2, 2, 8}, kvkeep::policy{kvkeep::still_read{p}, p}, {.max_step = 8});
  ASSERT_EQ(plan.units(), 3U);
  take(plan, 8);
  take(plan, 3);
  EXPECT_EQ(plan.held(0), (positions{10}));
  EXPECT_EQ(plan.held(1), (positions{9, 10}));
  EXPECT_EQ(plan.held(2), (positions{8, 9, 10}));
  const auto few = kvkeep::try_make_planner({4, 2, 2, 8}, kvkeep::policy{kvkeep::still_read{p}, p});
  ASSERT_FALSE(few);
  EXPECT_EQ(few.error().argument(), "variant of layer 3, kv head 0");
  EXPECT_FALSE(kvkeep::try_make_planner({4, 2, 2, 8}, kvkeep::policy{kvkeep::keep_all{40}, p}));
  const auto none = kvkeep::try_make_planner({4, 2, 2, 8}, kvkeep::policy{kvkeep::keep_all{40}, layer_windows{0}});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().argument(), "variants");
}

/// A user's strided pattern, of which nobody leaves, and one that tells who reads a token last but not how many are needed.
struct mine_strided {
  std::size_t most = 200;
  [[nodiscard]] bool reads(position q, position k) const { return q - k < 8 || (q - k) % 8 == 0; }
  [[nodiscard]] std::size_t longest() const { return most; }
};
struct mine_logarithmic {
  [[nodiscard]] bool reads(position q, position k) const {
    return q == k || std::has_single_bit(static_cast<std::uint64_t>(q - k));
  }
  [[nodiscard]] std::size_t longest() const { return 300; }
};
struct mine_untold {
  [[nodiscard]] bool reads(position q, position k) const { return q - k < 8; }
  [[nodiscard]] position last_reader(position k) const { return k + 7; }
  [[nodiscard]] kvkeep::pattern_need needs() const { return kvkeep::pattern_need::bounded; }
};

TEST(StillReadOfUsers, RefusesAPatternOfWhichNobodyLeaves) {
  const auto fault = [](const auto& rule) { return rule.check() ? "none" : rule.check().error().message(); };
  EXPECT_EQ(fault(kvkeep::still_read{mine_strided{}}),
            "kvkeep: in a stream of 200 tokens not one of the first half has had its last reader by the middle, so the "
            "pattern evicts nothing: keep_all{max_tokens} is the retain rule to read it from");
  EXPECT_NE(fault(kvkeep::still_read{mine_strided{}, 40}).find("a stream of 200 tokens"), std::string::npos);
  EXPECT_NE(fault(kvkeep::still_read{mine_logarithmic{}}).find("a stream of 300 tokens"), std::string::npos);
  EXPECT_EQ(fault(kvkeep::still_read{mine_strided{}, 100, kvkeep::endless::kept}), "none");
  EXPECT_EQ(fault(kvkeep::still_read{odd_and_even{}}), "none");
  EXPECT_NE(fault(kvkeep::still_read{mine_untold{}}).find("max_tokens = 0"), std::string::npos);
  EXPECT_EQ(fault(kvkeep::still_read{mine_untold{}, 50}), "none");
  EXPECT_EQ(fault(kvkeep::still_read{kvkeep::fixed{4, 3}, 100}), "none");
  EXPECT_NE(fault(kvkeep::still_read{kvkeep::fixed{4, 4}, 100}).find("columns = block"), std::string::npos);
}

TEST(StillReadOfUsers, StandsBesideOtherRules) {
  // Sinks stay although the pattern never reads them again; a query that reads all finds them.
  const kvkeep::fixed p{4, 1};
  auto plan = kvkeep::make_planner(
      {1, 1, 1, 8}, kvkeep::policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::still_read{p, 64}}}, {.max_step = 16});
  take(plan, 10);
  EXPECT_EQ(plan.held(), (positions{0, 1, 3, 7, 8, 9}));
  EXPECT_EQ(plan.capacity(), 2 + p.most_needed(0, 64));
}

TEST(StillRead, GoesWithAfterStep) {
  const kvkeep::fixed p{4, 1};
  auto plan = kvkeep::make_planner(
      {1, 1, 1, 8}, kvkeep::policy{kvkeep::still_read{p, 64}, p, kvkeep::true_distance{}, kvkeep::after_step{}},
      {.max_step = 16});
  take(plan, 10);
  EXPECT_EQ(plan.held(), (positions{3, 7, 8, 9}));
  const auto before = kvkeep::try_make_planner(
      {1, 1, 1, 8}, kvkeep::policy{kvkeep::still_read{p, 64}, p, kvkeep::true_distance{}, kvkeep::before_step{}});
  ASSERT_FALSE(before);
  EXPECT_EQ(before.error().argument(), "when");
  const auto blocks = kvkeep::try_make_planner(
      {1, 1, 1, 8}, kvkeep::policy{kvkeep::still_read{p, 64}, p, kvkeep::true_distance{}, kvkeep::each_block{4}});
  ASSERT_FALSE(blocks);
  EXPECT_EQ(blocks.error().argument(), "when");
}

// An encoding that needs the largest distance gets it from a pattern that has one, however long the stream is.
TEST(StillRead, TellsTheOldestThatIsNeeded) {
  using kvkeep::log_sparse;
  using kvkeep::still_read;
  EXPECT_EQ((still_read<log_sparse>{log_sparse{2, 8}}.oldest()), 8);
  EXPECT_EQ((still_read<log_sparse>{log_sparse{2, 8}, 5}.oldest()), 5);
  EXPECT_EQ((still_read<log_sparse>{log_sparse{2, 0}, 100, kvkeep::endless::kept}.oldest()), 100);
  const kvkeep::rope scaled{.scaling = kvkeep::dynamic_ntk_scaling{.factor = 2.0, .original_max_position = 4.0}};
  const kvkeep::model_shape shape{1, 2, 1, 8};
  EXPECT_TRUE(
      kvkeep::try_make_cache(shape, kvkeep::log_sparse_attention{.window = 2, .restart = 8}, {.positions = scaled}));
}

TEST(StillRead, RefusesAStreamThatIsTooLong) {
  auto cache = kvkeep::make_cache({2, 2, 2, 8}, kvkeep::sparse_fixed{.block = 4, .columns = 1, .max_tokens = 20},
                                  {.max_step = 16, .first_position = 5});
  feed(cache, cache.shape(), 16);
  const auto refused = cache.try_begin(5);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().argument(), "n");
  EXPECT_EQ(refused.error().message(), "kvkeep: n = 5; allowed: 0 .. 4: 16 of max_tokens = 20 tokens have come");
  EXPECT_FALSE(cache.try_reserve(5));
  feed(cache, cache.shape(), 4);
  EXPECT_FALSE(cache.try_begin(1));
  cache.clear();
  feed(cache, cache.shape(), 16);

  const odd_and_even p{.most = 12};
  auto plan = kvkeep::make_planner({1, 1, 1, 8}, kvkeep::policy{kvkeep::still_read{p}, p}, {.max_step = 16});
  EXPECT_FALSE(plan.try_begin(13));
  EXPECT_TRUE(plan.try_begin(12));
  auto shorter = kvkeep::make_planner({1, 1, 1, 8}, kvkeep::policy{kvkeep::still_read{p, 7}, p}, {.max_step = 16});
  EXPECT_FALSE(shorter.try_begin(8));
  EXPECT_TRUE(shorter.try_begin(7));
  auto selected = kvkeep::make_planner({1, 1, 1, 8}, kvkeep::policy{kvkeep::keep_all{100}, short_pattern{}});
  EXPECT_FALSE(selected.try_begin(11)) << "of a select rule alone, too";
  EXPECT_TRUE(selected.try_begin(10));

  auto endless = kvkeep::make_planner({1, 1, 1, 8}, kvkeep::log_sparse_attention{.restart = 8}, {.max_step = 64});
  for (int i = 0; i < 100; ++i) take(endless, 64);
  EXPECT_EQ(endless.next_position(), 6400);
  EXPECT_LE(endless.held_count(), 8U);
}

TEST(StillRead, MessagesLeaveWhatIsNeeded) {
  auto cache = kvkeep::make_cache({2, 2, 2, 8}, kvkeep::sparse_fixed{.block = 8, .columns = 2, .max_tokens = 64},
                                  {.max_step = 16});
  feed(cache, cache.shape(), 13);
  const positions held = cache.held();
  EXPECT_EQ(held, (positions{6, 7, 8, 9, 10, 11, 12}));
  cache.reserve(16);
  cache.reserve(51);
  EXPECT_EQ(cache.held(), held) << "tokens that come make room for themselves";
  cache.end_turn();
  EXPECT_EQ(cache.held(), held);
  cache.erase(7, 10);
  EXPECT_EQ(cache.held(), (positions{6, 10, 11, 12}));
  feed(cache, cache.shape(), 5);
  EXPECT_EQ(cache.held(), (positions{6, 14, 15, 16, 17}));
}

std::string fault(const kvkeep::result<void>& ok) { return ok ? "none" : ok.error().argument(); }
std::string message(const kvkeep::result<void>& ok) { return ok ? "none" : ok.error().message(); }

TEST(SparsePatterns, NameEveryMistake) {
  using namespace kvkeep;
  EXPECT_EQ(message(strided{0}.check()), "kvkeep: stride = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(fault(strided{4, static_cast<strided_band>(2)}.check()), "band");
  EXPECT_EQ(fault(strided{4, strided_band::paper, static_cast<pattern_parts>(3)}.check()), "parts");
  EXPECT_EQ(message(fixed{0, 1}.check()), "kvkeep: block = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(message(fixed{8, 9}.check()), "kvkeep: columns = 9; allowed: 1 .. block = 8");
  EXPECT_EQ(fault(fixed{8, 0}.check()), "columns");
  EXPECT_EQ(message(fixed{8, 3, 3}.check()), "kvkeep: sub_blocks = 3; allowed: 1 .. block / columns = 2");
  EXPECT_EQ(fault(fixed{8, 3, 0}.check()), "sub_blocks");
  EXPECT_EQ(fault(fixed{8, 3, 1, static_cast<pattern_parts>(9)}.check()), "parts");
  EXPECT_EQ(fault(log_sparse{0}.check()), "window");
  EXPECT_EQ(message(log_sparse{9, 8}.check()), "kvkeep: window = 9; allowed: 1 .. restart = 8");
  EXPECT_EQ(fault(log_sparse{1, 8, static_cast<log_restarts>(2)}.check()), "restarts");
  EXPECT_EQ(fault(log_sparse{1, std::size_t{1} << 31}.check()), "restart");
  EXPECT_EQ(message(still_read{fixed{8, 2}}.check()),
            "kvkeep: max_tokens = 0; allowed: 1 .. 2147483647: what this pattern needs grows with the stream");
  EXPECT_EQ(fault(still_read{fixed{8, 2}, std::size_t{1} << 31}.check()), "max_tokens");
  EXPECT_EQ(fault(still_read{fixed{8, 9}, 9}.check()), "columns");
  EXPECT_EQ(fault(still_read{fixed{8, 2}, 9, static_cast<endless>(2)}.check()), "everything");
  EXPECT_EQ(fault(still_read{odd_and_even{0}}.check()), "longest");
  EXPECT_EQ(fault(pattern_distance{static_cast<pattern_distance::counted>(2)}.check()), "distance");
  EXPECT_EQ(fault(sparse_strided{}.check()), "max_tokens");
  EXPECT_EQ(fault(sparse_fixed{.columns = 129, .max_tokens = 9}.check()), "columns");
  EXPECT_EQ(fault(sparse_fixed{}.check()), "max_tokens");
  EXPECT_EQ(fault(log_sparse_attention{}.check()), "max_tokens");
  EXPECT_EQ(fault(log_sparse_attention{.restart = 8, .restarts = log_restarts::repeated}.check()), "max_tokens");
  EXPECT_EQ(fault(log_sparse_attention{.window = 9, .restart = 8}.check()), "window");
  EXPECT_EQ(fault(log_sparse_attention{.restart = 8}.check()), "none");
}

TEST(SparsePatterns, RefuseModelsWhereAPartWouldNeverBeRead) {
  using namespace kvkeep;
  const auto of = [](const model_shape& shape, const auto& preset) {
    const auto made = try_make_planner(shape, preset);
    return made ? "none" : made.error().message();
  };
  const model_shape flat{1, 4, 4, 8};
  const model_shape narrow{4, 4, 1, 8};
  EXPECT_EQ(of(flat, sparse_strided{.parts = pattern_parts::by_layer, .max_tokens = 9}),
            "kvkeep: layers = 1; allowed: >= 2 with parts = by_layer: A2 is read by the second layer");
  EXPECT_EQ(of(narrow, sparse_strided{.parts = pattern_parts::by_head, .max_tokens = 9}),
            "kvkeep: kv_heads = 1; allowed: >= 2 with parts = by_head: half of them read A2");
  EXPECT_EQ(of(flat, sparse_fixed{.columns = 8, .sub_blocks = 3, .parts = pattern_parts::by_head, .max_tokens = 9}),
            "kvkeep: kv_heads = 4; allowed: >= 6 with parts = by_head: half of them read A2");
  EXPECT_EQ(of(flat, sparse_fixed{.columns = 8, .sub_blocks = 5, .max_tokens = 9}),
            "kvkeep: kv_heads = 4; allowed: >= sub_blocks = 5");
  EXPECT_EQ(of(flat, sparse_fixed{.columns = 8, .sub_blocks = 4, .max_tokens = 9}), "none");
  EXPECT_EQ(of(narrow, sparse_fixed{.columns = 8, .parts = pattern_parts::by_layer, .max_tokens = 9}), "none");
  const strided heads{4, strided_band::paper, pattern_parts::by_head};
  EXPECT_FALSE(try_make_planner(narrow, policy{keep_all{9}, heads})) << "as a select rule, too";
}

}  // namespace
}  // namespace kvkeep_test
