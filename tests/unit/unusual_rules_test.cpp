// Rules in combinations that no preset has, and users' rules that say unusual things of themselves.
#include <gtest/gtest.h>

#include <limits>

#include "../support/oracle.hpp"
#include "kvkeep/kvkeep.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::position;
constexpr kvkeep::model_shape shape{1, 1, 1, 8};
constexpr auto none = std::nullopt;

template <class Retain, class Distance, class When = kvkeep::each_token>
auto planner_of(Retain retain, Distance distance, When when = {}, std::size_t max_step = 8) {
  return kvkeep::make_planner(shape, kvkeep::policy{retain, kvkeep::read_all{}, distance, when},
                              {.max_step = max_step});
}
template <class Policy>
std::string fault(const Policy& policy, const kvkeep::cache_options& options = {.max_step = 8}) {
  const auto made = kvkeep::try_make_cache(shape, policy, options);
  const auto bytes = kvkeep::try_cache_bytes(shape, policy, options);
  EXPECT_EQ(bool(made), bool(bytes));
  return made ? "none" : made.error().message();
}
/// The largest age of a key held, over `steps` steps of n tokens.
template <class Planner>
position oldest_read(Planner& plan, std::size_t steps, std::size_t n) {
  position most = 0;
  for (std::size_t i = 0; i < steps; ++i) {
    plan.begin(n);
    for (std::size_t t = 0; t < n; ++t) {
      const auto seen = plan.view(0, t);
      for (const kvkeep::key_span& span : seen.spans) {
        for (std::size_t r = 0; r < kvkeep::block_tokens; ++r) {
          if ((span.mask >> r & 1U) != 0) most = std::max(most, seen.distance[span.block * kvkeep::block_tokens + r]);
        }
      }
    }
    plan.commit();
  }
  return most;
}

TEST(LargestDistance, OfTheSettledCacheDistanceNeedsItsOwnSinks) {
  EXPECT_EQ(planner_of(kvkeep::keep{kvkeep::sinks{4}, kvkeep::recent{16}}, kvkeep::settled_cache_distance{4, 16})
                .largest_distance(),
            20);
  EXPECT_EQ(planner_of(kvkeep::keep{kvkeep::sinks{8}, kvkeep::recent{16}}, kvkeep::settled_cache_distance{4, 16})
                .largest_distance(),
            none)
      << "sinks 4 .. 7 keep their distance in the stream";
  EXPECT_EQ(planner_of(kvkeep::keep{kvkeep::pinned{100, 130}, kvkeep::recent{8}}, kvkeep::settled_cache_distance{0, 2})
                .largest_distance(),
            none);
}

/// Keeps the newest `newest` tokens, and says that it has room for more.
struct roomy {
  std::size_t room = 64;
  position newest = 8;
  using state = position;
  [[nodiscard]] std::size_t share() const { return room; }
  [[nodiscard]] state advance(state, const kvkeep::held_token& t) const { return t.number + 1; }
  [[nodiscard]] bool claims(const kvkeep::held_token& t, state tokens) const { return t.number >= tokens - newest; }
  [[nodiscard]] position oldest() const { return newest; }
};

TEST(LargestDistance, IsReachedAndNotExceeded) {
  const auto most = [](const auto& plan) { return plan.largest_distance().value_or(-1); };
  auto each = planner_of(roomy{}, kvkeep::true_distance{});
  EXPECT_EQ(most(each), 7);
  EXPECT_EQ(oldest_read(each, 200, 1), 7);
  auto late = planner_of(roomy{}, kvkeep::true_distance{}, kvkeep::before_step{}, 1);
  EXPECT_GE(most(late), oldest_read(late, 400, 1)) << "asked when there is no room, not before";
  EXPECT_EQ(oldest_read(late, 400, 1), 63);
  auto window = planner_of(kvkeep::recent{9}, kvkeep::true_distance{}, kvkeep::before_step{}, 4);
  EXPECT_GE(most(window), oldest_read(window, 40, 3));
  // Nobody leaves, so that a step cannot see more than all.
  EXPECT_EQ(most(planner_of(kvkeep::keep_all{64}, kvkeep::true_distance{})), 63);
  EXPECT_EQ(most(planner_of(kvkeep::keep_all{64}, kvkeep::true_distance{}, kvkeep::after_step{})), 63);
  EXPECT_EQ(most(planner_of(kvkeep::keep_all{64}, kvkeep::cache_distance{}, kvkeep::after_step{})), 63);
  EXPECT_EQ(most(planner_of(kvkeep::keep_all{64}, kvkeep::true_distance{}, kvkeep::each_block{8})), 63);
}

TEST(LargestDistance, OfRulesThatKeepForEverThereIsNone) {
  const position forever = std::numeric_limits<position>::max();
  EXPECT_EQ(
      planner_of(kvkeep::keep{roomy{.newest = forever}, kvkeep::recent{8}}, kvkeep::true_distance{}).largest_distance(),
      none);
  EXPECT_EQ(
      planner_of(kvkeep::keep{roomy{.newest = -3}, kvkeep::recent{8}}, kvkeep::true_distance{}).largest_distance(), 7);
}

/// Every key seems newer than its query.
struct newer {
  kvkeep::key_storage stored{};
  [[nodiscard]] position operator()(const kvkeep::key_place& k) const { return -5 - k.age(); }
  [[nodiscard]] kvkeep::key_storage storage(const kvkeep::retention&) const { return stored; }
  [[nodiscard]] std::optional<position> largest(const kvkeep::retention&) const { return -5; }
};

TEST(DistanceRules, MayBeNegativeThroughout) {
  const kvkeep::rope plain{.theta = 100.0};
  const kvkeep::rope by_length{.theta = 100.0, .scaling = kvkeep::dynamic_ntk_scaling{.original_max_position = 16.0}};
  for (const kvkeep::rope& rope : {plain, by_length}) {
    kvkeep::rope of_one = rope;
    if (kvkeep::depends_on_length(rope.scaling)) of_one.length = 1;
    for (const bool scattered : {false, true}) {
      const newer distance{{.scattered = scattered}};
      auto cache = kvkeep::make_cache(shape, kvkeep::policy{kvkeep::recent{8}, kvkeep::read_all{}, distance},
                                      {.positions = rope, .max_step = 8});
      auto step = cache.begin(6);
      const std::vector<float> out = attend_layer(step, shape, 0, 0);
      step.commit();
      const layer_rows rows = rows_of(shape, 0, 0, 6);
      const auto truth =
          kvkeep::reference_attention(view(rows.q, 6, 1, 8), view(rows.k, 6, 1, 8), view(rows.v, 6, 1, 8),
                                      {.positions = of_one}, [](std::size_t q, std::size_t k) {
                                        return k <= q ? std::optional(-5 - static_cast<position>(q - k)) : std::nullopt;
                                      });
      for (std::size_t i = 0; i < out.size(); ++i) {
        EXPECT_NEAR(static_cast<double>(out[i]), truth.output[i], 1e-5) << scattered;
      }
    }
  }
}

TEST(DistanceRules, StoreKeysOneWayOnly) {
  const auto stored = [](const kvkeep::key_storage& storage) {
    return fault(kvkeep::policy{kvkeep::recent{8}, kvkeep::read_all{}, newer{storage}});
  };
  EXPECT_EQ(stored({}), "none");
  EXPECT_EQ(stored({.raw_from_age = 3}), "none");
  EXPECT_EQ(stored({.scattered = true, .raw_from_age = 3}),
            "kvkeep: storage.raw_from_age = 3; allowed: 0 where keys are scattered: all of them are raw");
  EXPECT_EQ(stored({.raw_from_age = -3}), "kvkeep: storage.raw_from_age = -3; allowed: >= 0");
  EXPECT_EQ(stored({.raw_below = -1}), "kvkeep: storage.raw_below = -1; allowed: >= 0");
}

/// before_step with a word too many.
struct growing {
  kvkeep::schedule::act when = kvkeep::schedule::act::before_step;
  static constexpr bool chunk_invariant = false;
  [[nodiscard]] kvkeep::schedule schedule() const { return {when, kvkeep::schedule::overflow::grow}; }
};

TEST(Options, ThatCannotActAreRefused) {
  const auto with = [](auto when) {
    return fault(kvkeep::policy{kvkeep::recent{8}, kvkeep::read_all{}, kvkeep::true_distance{}, when});
  };
  EXPECT_EQ(with(growing{}), "none");
  EXPECT_EQ(with(growing{kvkeep::schedule::act::after_step}),
            "kvkeep: when.too_large = grow; allowed: refuse where not before_step decides");
  const kvkeep::sliding_window window{.window = 8};
  EXPECT_EQ(fault(window, {.max_step = 8, .max_shortened = 1}),
            "kvkeep: max_shortened = 1; allowed: 0: this policy needs no queries to shorten a step, or cannot");
  EXPECT_EQ(fault(window, {.positions = kvkeep::rope{.length = 4096}}),
            "kvkeep: rope.length = 4096; allowed: 0: this scaling does not depend on the length");
  EXPECT_EQ(fault(kvkeep::lm_infinite::middle{
                .sinks = 0, .window = 8, .count = 101, .first_layer = 0, .last_layer = 1, .max_tokens = 100}),
            "kvkeep: count = 101; allowed: 1 .. max_tokens = 100");
}

TEST(Options, UnitsThatCannotBeTakeNoMemory) {
  const auto bytes = [](std::size_t count) {
    const kvkeep::inf_llm policy{
        .sinks = 1, .window = 8, .block_size = 4, .count = count, .representatives = 1, .max_tokens = 100};
    return kvkeep::cache_bytes_of(shape, policy, {.max_step = 8}).total;
  };
  EXPECT_LT(bytes(21), bytes(22));
  EXPECT_EQ(bytes(22), bytes(2147483647)) << "a stream of 100 tokens fills 22 units";
}

}  // namespace
}  // namespace kvkeep_test
