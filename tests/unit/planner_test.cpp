// The planner alone: the worked examples of the published systems, with their very numbers.
#include "kvkeep/cache/planner.hpp"

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

#include "../support/rows.hpp"
#include "kvkeep/policy/presets.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::position;
using positions = std::vector<position>;
using published = kvkeep::streaming_llm::published;
constexpr kvkeep::model_shape shape{1, 1, 1, 2};

/// What query `query` of the open step reads, oldest first, with distances.
struct reading {
  positions keys;
  positions distances;  // by key
};
template <class Planner>
reading read_by(Planner& plan, std::size_t query, std::size_t unit = 0) {
  const kvkeep::query_view view = plan.view(unit, query);
  std::map<position, position> found;
  for (const kvkeep::key_span& span : view.spans) {
    for (std::size_t r = 0; r < 16; ++r) {
      if ((span.mask >> r & 1U) == 0) continue;
      const std::size_t s = span.block * 16 + r;
      EXPECT_TRUE(found.emplace(plan.position_of(kvkeep::to_slot(s)), view.distance[s]).second)
          << "a key is read twice";
      if (plan.storage().all_rotated()) {
        EXPECT_EQ(span.angle, plan.position_of(kvkeep::to_slot(s)) + view.distance[s]);
      }
    }
  }
  EXPECT_EQ(found.size(), view.keys);
  reading out;
  for (const auto& [key, away] : found) {
    out.keys.push_back(key);
    out.distances.push_back(away);
  }
  return out;
}
template <class Planner>
reading step_one(Planner& plan) {
  plan.begin(1);
  reading r = read_by(plan, 0);
  plan.commit();
  return r;
}
positions range(position first, position last) {
  positions out;
  for (position p = first; p <= last; ++p) out.push_back(p);
  return out;
}

/// A rule that likes all tokens alike.
struct indifferent {
  std::size_t count = 6;
  [[nodiscard]] std::size_t share() const { return count; }
  [[nodiscard]] double rank(const kvkeep::held_token&) const { return 1.0; }
};

TEST(Planner, OfEqualRanksTheOlderStay) {
  for (const std::size_t step : {1U, 2U, 5U}) {  // so many go at once
    auto plan =
        kvkeep::make_planner(shape, kvkeep::policy{kvkeep::keep{kvkeep::recent{2}, indifferent{}}, kvkeep::read_all{},
                                                   kvkeep::true_distance{}, kvkeep::after_step{}});
    for (std::size_t tokens = 0; tokens < 40; tokens += step) {
      plan.begin(step);
      plan.commit();
    }
    EXPECT_EQ(plan.held(), (positions{0, 1, 2, 3, 4, 5, 38, 39})) << step;
  }
}

TEST(Planner, SinksAndWindowInOneBlockHaveTwoAngles) {
  auto plan = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 4, .window = 44});
  for (position p = 0; p < 150; ++p) {
    const reading r = step_one(plan);  // checks the angles
    EXPECT_EQ(r.keys.size(), static_cast<std::size_t>(std::min<position>(p + 1, 48)));
  }
}

TEST(StreamingLlm, TraceOfAppendThenEvict) {
  auto plan =
      kvkeep::make_planner(shape, published{.start = 2, .recent = 3, .order = published::orders::append_then_evict});
  const positions attended[] = {
      {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4, 5}, {0, 1, 3, 4, 5, 6}, {0, 1, 4, 5, 6, 7}, {0, 1, 5, 6, 7, 8}};
  const positions kept[] = {{0, 1, 2, 3, 4}, {0, 1, 3, 4, 5}, {0, 1, 4, 5, 6}, {0, 1, 5, 6, 7}, {0, 1, 6, 7, 8}};
  auto exact = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 2, .window = 4});
  for (position t = 0; t <= 8; ++t) {
    const reading r = step_one(plan);
    const reading same = step_one(exact);
    EXPECT_EQ(r.keys, same.keys);
    EXPECT_EQ(r.distances, same.distances);
    EXPECT_EQ(plan.held(), exact.next_held());
    EXPECT_LE(plan.held_count(), 5U);
    if (t < 4) continue;
    const auto i = static_cast<std::size_t>(t - 4);
    EXPECT_EQ(r.keys, attended[i]);
    EXPECT_EQ(plan.held(), kept[i]);
    EXPECT_EQ(r.distances.front(), t == 4 ? 4 : 5) << "the query stands at cache position 5, sink 0 at 0";
    EXPECT_EQ(r.distances.back(), 0);
  }
}

TEST(StreamingLlm, TraceOfEvictThenAppend) {
  auto plan = kvkeep::make_planner(shape, published{.start = 2, .recent = 3});
  auto exact = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 2, .window = 3});
  reading r;
  for (position t = 0; t <= 7; ++t) {
    r = step_one(plan);
    const reading same = step_one(exact);
    EXPECT_EQ(r.keys, same.keys);
    EXPECT_EQ(r.distances, same.distances);
    EXPECT_EQ(plan.held(), exact.held());
    EXPECT_LE(plan.held_count(), 5U);
  }
  EXPECT_EQ(r.keys, (positions{0, 1, 5, 6, 7}));
  EXPECT_EQ(plan.held(), (positions{0, 1, 5, 6, 7}));
  EXPECT_EQ(r.distances, (positions{4, 3, 2, 1, 0})) << "the query stands at cache position 4";
}

/// What stays of the first `length` tokens when n come.
positions evicted_for(std::size_t length, std::size_t n) {
  auto plan = kvkeep::make_planner(shape, published{.start = 2, .recent = 3});
  plan.begin(length);
  plan.commit();
  plan.begin(n);
  positions before = read_by(plan, 0).keys;
  before.pop_back();
  return before;
}

TEST(StreamingLlm, EvictForSpace) {
  EXPECT_EQ(evicted_for(5, 2), (positions{0, 1, 4}));
  EXPECT_EQ(evicted_for(5, 3), (positions{0, 1}));
  EXPECT_EQ(evicted_for(5, 4), (positions{0, 1}));
  EXPECT_EQ(evicted_for(3, 5), (positions{0, 1}));
  EXPECT_EQ(evicted_for(1, 9), (positions{0}));

  auto plan = kvkeep::make_planner(shape, published{.start = 2, .recent = 3});
  plan.begin(5);
  plan.commit();
  plan.begin(4);
  plan.commit();
  EXPECT_EQ(plan.held_count(), 6U) << "a step larger than recent overflows the capacity of 5, as published";
}

TEST(StreamingLlm, NoSinksOrNoWindow) {
  auto window =
      kvkeep::make_planner(shape, published{.start = 0, .recent = 3, .order = published::orders::append_then_evict});
  auto sinks =
      kvkeep::make_planner(shape, published{.start = 2, .recent = 0, .order = published::orders::append_then_evict});
  for (int t = 0; t <= 4; ++t) {
    step_one(window);
    step_one(sinks);
  }
  EXPECT_EQ(window.held(), (positions{2, 3, 4}));
  EXPECT_EQ(sinks.held(), (positions{0, 1}));
}

TEST(StreamingLlm, EraseIsEvictRange) {
  auto plan = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 2, .window = 30});
  plan.begin(5);
  plan.commit();
  plan.erase(1, 3);
  EXPECT_EQ(plan.held(), (positions{0, 3, 4}));
  plan.erase(2, 2);
  EXPECT_EQ(plan.held(), (positions{0, 3, 4}));
  EXPECT_EQ(plan.try_erase(3, 2).error().argument(), "last");
  EXPECT_EQ(plan.try_erase(3, 6).error().argument(), "last");
  EXPECT_EQ(plan.try_erase(-1, 2).error().argument(), "first");
  EXPECT_EQ(plan.held(), (positions{0, 3, 4}));
  plan.begin(1);
  EXPECT_EQ(read_by(plan, 0).distances, (positions{3, 2, 1, 0})) << "distances close the gap";
}

TEST(StreamingLlm, AnErasedSinkIsNotReplaced) {
  auto plan = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 2, .window = 3});
  plan.begin(6);
  plan.commit();
  plan.erase(0, 1);
  for (int t = 0; t < 4; ++t) step_one(plan);
  EXPECT_EQ(plan.held(), (positions{1, 7, 8, 9}));
}

TEST(LmInfinite, SetsAndDistances) {
  auto plan = kvkeep::make_planner(shape, kvkeep::lm_infinite{.sinks = 2, .window = 3});
  for (position i = 0; i <= 30; ++i) {
    const reading r = step_one(plan);
    if (i == 2) {
      EXPECT_EQ(r.keys, (positions{0, 1, 2}));
    }
    if (i == 3) {
      EXPECT_EQ(r.keys, (positions{0, 1, 2, 3}));
    }
    if (i == 3) {
      EXPECT_EQ(r.distances, (positions{3, 2, 1, 0}));
    }
    if (i == 7) {
      EXPECT_EQ(r.keys, (positions{0, 1, 5, 6, 7}));
    }
    if (i == 7) {
      EXPECT_EQ(r.distances, (positions{3, 3, 2, 1, 0})) << "sinks tie at the limit";
    }
    EXPECT_LE(plan.held_count(), 5U);
    EXPECT_EQ(r.keys.back(), i);
  }
}

TEST(LmInfinite, LargestChunkGivesTheSameSets) {
  for (const std::vector<std::size_t>& cuts : {std::vector<std::size_t>{8}, {5, 3}, {1, 1, 1, 1, 1, 1, 1, 1}}) {
    auto plan = kvkeep::make_planner(shape, kvkeep::lm_infinite{.sinks = 2, .window = 3});
    position i = 0;
    for (const std::size_t n : cuts) {
      plan.begin(n);
      for (std::size_t t = 0; t < n; ++t, ++i) {
        positions expected = range(std::max<position>(0, i - 2), i);
        for (position s = std::min<position>(1, i - 3); s >= 0; --s) {
          if (s < expected.front()) expected.insert(expected.begin(), s);
        }
        EXPECT_EQ(read_by(plan, t).keys, expected) << i;
      }
      plan.commit();
    }
    EXPECT_EQ(plan.held(), (positions{0, 1, 5, 6, 7}));
  }
}

TEST(FixedPatterns, DenseAndWindow) {
  auto all = kvkeep::make_planner(shape, kvkeep::dense{.max_tokens = 20});
  auto window = kvkeep::make_planner(shape, kvkeep::sliding_window{.window = 5});
  auto lambda = kvkeep::make_planner(shape, kvkeep::lm_infinite{.sinks = 0, .window = 5});
  auto wide = kvkeep::make_planner(shape, kvkeep::sliding_window{.window = 20});
  for (position i = 0; i < 20; ++i) {
    const reading everything = step_one(all);
    EXPECT_EQ(everything.keys, range(0, i));
    EXPECT_EQ(step_one(wide).distances, everything.distances);
    const reading r = step_one(window);
    EXPECT_EQ(r.keys, range(std::max<position>(0, i - 4), i));
    EXPECT_EQ(window.next_held(), range(std::max<position>(0, i - 3), i)) << "needed next: window - 1";
    const reading same = step_one(lambda);
    EXPECT_EQ(r.keys, same.keys);
    EXPECT_EQ(r.distances, same.distances);
  }
  const auto full = all.try_begin(1);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), kvkeep::errc::capacity);
  EXPECT_NE(full.error().message().find("max_tokens = 20"), std::string::npos) << full.error().message();
  EXPECT_EQ(all.held_count(), 20U);
}

TEST(Equivalences, BetweenTheSystems) {
  // StreamingLLM without sinks is a window; with one sink it is LM-Infinite once the sink is beyond the window; the InfLLM
  // variant is the same from sinks + window - 1 on, and another during warm-up.
  auto streaming = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 0, .window = 4});
  auto window = kvkeep::make_planner(shape, kvkeep::sliding_window{.window = 4});
  auto first = kvkeep::make_planner(shape, published{.start = 0, .recent = 4});
  auto last =
      kvkeep::make_planner(shape, published{.start = 0, .recent = 3, .order = published::orders::append_then_evict});
  auto one_sink = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 1, .window = 3});
  auto lambda = kvkeep::make_planner(shape, kvkeep::lm_infinite{.sinks = 1, .window = 3});
  auto two = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 2, .window = 4});
  auto settled = kvkeep::make_planner(shape, kvkeep::streaming_llm::settled{.sinks = 2, .window = 4});
  for (position i = 0; i < 25; ++i) {
    const reading newest = step_one(window);
    for (const reading& same : {step_one(streaming), step_one(first), step_one(last)}) {
      EXPECT_EQ(same.keys, newest.keys);
      EXPECT_EQ(same.distances, newest.distances);
    }
    EXPECT_EQ(step_one(one_sink).distances, step_one(lambda).distances) << i;
    const reading a = step_one(two);
    const reading b = step_one(settled);
    EXPECT_EQ(a.keys, b.keys);
    if (i < 4 || i >= 5) {
      EXPECT_EQ(a.distances, b.distances) << i;
    }
    if (i == 4) {
      EXPECT_EQ(a.distances.front(), 4);
      EXPECT_EQ(b.distances.front(), 5);
    }
  }
}

/// each_token by another name, as a user may write it.
struct by_two {
  std::size_t together = 2;
  kvkeep::schedule::act when = kvkeep::schedule::act::each_token;
  static constexpr bool chunk_invariant = false;
  [[nodiscard]] kvkeep::schedule schedule() const { return {.when = when, .together = together}; }
};

TEST(Planner, QueriesThatShareADecisionSeeWhatCameSince) {
  const auto made = [](std::size_t max_step, auto when) {
    return kvkeep::make_planner(shape,
                                kvkeep::policy{kvkeep::recent{9}, kvkeep::read_all{}, kvkeep::true_distance{}, when},
                                {.max_step = max_step});
  };
  auto plan = made(20, kvkeep::each_block{5});
  EXPECT_EQ(plan.capacity(), 13U);
  EXPECT_EQ(plan.largest_distance(), 12);
  plan.begin(20);
  EXPECT_EQ(read_by(plan, 8).keys, range(0, 8));
  EXPECT_EQ(read_by(plan, 14).keys, range(2, 14)) << "10 decided, and kept 2 .. 10";
  EXPECT_EQ(read_by(plan, 15).keys, range(7, 15));
  plan.commit();
  EXPECT_EQ(plan.held(), range(7, 19));
  EXPECT_EQ(plan.next_held(), range(12, 19));
  plan.begin(20);
  EXPECT_EQ(read_by(plan, 0).keys, range(12, 20)) << "blocks are counted from a step's begin";
  plan.commit();

  EXPECT_EQ(made(3, kvkeep::each_block{5}).capacity(), 11U) << "no step has more than three tokens";
  EXPECT_EQ(made(1, kvkeep::each_block{5}).capacity(), 9U);
  EXPECT_EQ(made(1, kvkeep::each_block{5}).largest_distance(), 8);
  EXPECT_EQ(made(20, by_two{}).capacity(), 10U);
  const auto fault = [](const by_two& when) {
    const auto tried = kvkeep::try_make_planner(
        shape, kvkeep::policy{kvkeep::recent{9}, kvkeep::read_all{}, kvkeep::true_distance{}, when});
    return tried ? std::string("none") : tried.error().message();
  };
  EXPECT_EQ(fault({.together = 0}), "kvkeep: when.together = 0; allowed: >= 1");
  EXPECT_EQ(fault({.together = 2, .when = kvkeep::schedule::act::after_step}),
            "kvkeep: when.together = 2; allowed: 1 where not each_token decides");
  EXPECT_EQ(fault({.together = 1, .when = kvkeep::schedule::act::after_step}), "none");
}

TEST(Planner, ReserveTakesFromTheShareWrittenLast) {
  const auto policy = kvkeep::policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::recent{4}, kvkeep::recent{3}},
                                     kvkeep::read_all{}, kvkeep::cache_distance{}, kvkeep::each_token{}};
  auto plan = kvkeep::make_planner(shape, policy);
  plan.begin(20);
  plan.commit();
  EXPECT_EQ(plan.held(), (positions{0, 1, 13, 14, 15, 16, 17, 18, 19}));
  plan.reserve(2);
  EXPECT_EQ(plan.held(), (positions{0, 1, 15, 16, 17, 18, 19}));
  plan.reserve(5);
  EXPECT_EQ(plan.held(), (positions{0, 1, 18, 19}));
  const auto too_much = plan.try_reserve(8);
  ASSERT_FALSE(too_much);
  EXPECT_EQ(too_much.error().argument(), "n");
  EXPECT_NE(too_much.error().message().find("0 .. 7"), std::string::npos) << too_much.error().message();
  EXPECT_EQ(plan.held(), (positions{0, 1, 18, 19}));
  plan.reserve(7);
  EXPECT_EQ(plan.held(), (positions{0, 1}));
}

TEST(Planner, FillsSharesInTheOrderWritten) {
  const auto window_first = kvkeep::policy{kvkeep::keep{kvkeep::recent{3}, kvkeep::sinks{2}}};
  auto plan = kvkeep::make_planner(shape, window_first);
  for (position i = 0; i < 12; ++i) {
    step_one(plan);
    EXPECT_EQ(plan.held_count(), static_cast<std::size_t>(std::min<position>(i + 1, 5)))
        << "min(length, sum of shares)";
  }
  EXPECT_EQ(plan.held(), (positions{0, 1, 9, 10, 11}));
}

/// A budget per layer and kv head.
struct ragged {
  static constexpr kvkeep::scope scope = kvkeep::scope::kv_head;
  static constexpr bool leaves_runs = true;
  [[nodiscard]] std::size_t share(const kvkeep::unit_place& place) const { return 4 + 3 * place.layer + place.kv_head; }
};

TEST(Planner, UnitsHoldWhatTheirBudgetSays) {
  const kvkeep::model_shape two{2, 4, 2, 2};
  auto plan = kvkeep::make_planner(two, kvkeep::policy{kvkeep::keep{ragged{}}}, {.max_step = 8});
  ASSERT_EQ(plan.units(), 4U);
  for (int i = 0; i < 10; ++i) {
    plan.begin(8);
    plan.commit();
  }
  EXPECT_EQ(plan.held(plan.unit_of(0, 0)), range(76, 79));
  EXPECT_EQ(plan.held(plan.unit_of(0, 1)), range(75, 79));
  EXPECT_EQ(plan.held(plan.unit_of(1, 0)), range(73, 79));
  EXPECT_EQ(plan.held(plan.unit_of(1, 1)), range(72, 79));
}

/// Keeps the tokens with the highest surprisal; forgets by half a turn.
struct most_surprising {
  std::size_t count = 2;
  using evidence = kvkeep::surprisal;
  using column = float;
  [[nodiscard]] std::size_t share() const { return count; }
  [[nodiscard]] float admit(float e) const { return e; }
  [[nodiscard]] double rank(const kvkeep::held_token&, float c) const { return static_cast<double>(c); }
  [[nodiscard]] float end_turn(float c) const { return c / 2; }
};

TEST(Planner, ColumnsFollowTheirTokens) {
  const auto policy = kvkeep::policy{kvkeep::keep{kvkeep::sinks{1}, kvkeep::recent{2}, most_surprising{2}},
                                     kvkeep::read_all{}, kvkeep::cache_distance{}, kvkeep::after_step{}};
  auto plan = kvkeep::make_planner(shape, policy, {.max_step = 64});
  std::vector<float> told(40, 1.0F);
  told[7] = 9.0F;
  told[30] = 8.0F;
  plan.begin(40);
  EXPECT_EQ(plan.try_commit().error().argument(), "surprisals");
  plan.commit({.surprisals = told});
  EXPECT_EQ(plan.held(), (positions{0, 7, 30, 38, 39})) << "rows moved to free blocks take their columns along";
  plan.end_turn();
  plan.begin(3);
  const std::vector<float> next{4.25F, 1.0F, 1.0F};
  plan.commit({.surprisals = next});
  EXPECT_EQ(plan.held(), (positions{0, 7, 40, 41, 42})) << "9 decayed to 4.5 still beats 4.25, 8 decayed to 4 does not";
  plan.begin(2);
  EXPECT_EQ(plan.try_commit({.surprisals = std::vector<float>{1.0F, NAN}}).error().argument(), "surprisals[1]");
  plan.commit({.surprisals = std::vector<float>{1.0F, 1.0F}});
  EXPECT_EQ(plan.held(), (positions{0, 7, 40, 43, 44}));

  auto positional = kvkeep::make_planner(shape, kvkeep::streaming_llm{});
  positional.begin(1);
  EXPECT_EQ(positional.try_commit({.surprisals = next}).error().code(), kvkeep::errc::unsupported);
  positional.commit();
}

TEST(Planner, EndlessSurpriseDoesNotPushOutTheTokenBeingProcessed) {
  auto plan = kvkeep::make_planner(shape, kvkeep::policy{most_surprising{2}});
  for (position t = 0; t < 5; ++t) {
    plan.begin(1);
    EXPECT_EQ(read_by(plan, 0).keys.back(), t);
    plan.commit({.surprisals = std::vector<float>{INFINITY}});
  }
}

/// Keeps every 2^k-th token, k growing whenever the share would overflow: a state of one number.
struct thinning {
  std::size_t count = 8;
  struct state {
    position stride = 1;
    position seen = 0;
  };
  [[nodiscard]] std::size_t share() const { return count; }
  [[nodiscard]] state start() const { return {1, 0}; }
  [[nodiscard]] state advance(const state& s, const kvkeep::held_token&) const {
    const position seen = s.seen + 1;
    return {seen > static_cast<position>(count) * s.stride ? s.stride * 2 : s.stride, seen};
  }
  [[nodiscard]] bool claims(const kvkeep::held_token& t, const state& s) const { return t.number % s.stride == 0; }
};

TEST(Planner, StatesAdvanceTokenByTokenAndRollBack) {
  const auto policy = kvkeep::policy{kvkeep::keep{kvkeep::recent{2}, thinning{}}};
  auto single = kvkeep::make_planner(shape, policy);
  auto chunked = kvkeep::make_planner(shape, policy);
  dice random(4);
  while (chunked.next_position() < 200) {
    const std::size_t n = random.between(1, 20);
    const std::size_t count = random.between(0, n);
    chunked.begin(n);
    if (random.chance(0.2)) {
      chunked.abort();
      continue;
    }
    chunked.commit(count);
    for (std::size_t t = 0; t < count; ++t) step_one(single);
    ASSERT_EQ(chunked.held(), single.held());
    ASSERT_EQ(chunked.next_held(), single.next_held());
  }
  EXPECT_EQ(single.held().front(), 0);
  EXPECT_EQ(single.held()[1], 32) << "the stride after 200 tokens";
  single.clear();
  for (int t = 0; t < 9; ++t) step_one(single);
  EXPECT_EQ(single.held(), (positions{0, 2, 4, 6, 7, 8})) << "a cleared stream begins with the first state";
}

/// Throws when told to.
struct fragile {
  const bool* broken;
  [[nodiscard]] std::size_t share() const { return 3; }
  [[nodiscard]] bool claims(const kvkeep::held_token&) const {
    if (*broken) throw std::runtime_error("broken rule");
    return true;
  }
};

TEST(Planner, RulesThatThrowUndoTheStep) {
  bool broken = false;
  for (const bool after : {false, true}) {
    const auto run = [&](const auto& policy) {
      auto plan = kvkeep::make_planner(shape, policy, {.max_step = 8});
      auto twin = kvkeep::make_planner(shape, policy, {.max_step = 8});
      for (int i = 0; i < 40; ++i) {
        broken = true;
        if (!after) {
          EXPECT_THROW(plan.begin(8), std::runtime_error);
          EXPECT_FALSE(plan.open());
        } else {
          plan.begin(8);
          EXPECT_THROW(plan.commit(), std::runtime_error);
          EXPECT_TRUE(plan.open()) << "the step stays open";
          plan.abort();
        }
        broken = false;
        plan.begin(5);
        plan.commit();
        twin.begin(5);
        twin.commit();
        ASSERT_EQ(plan.held(), twin.held());
      }
    };
    if (after) {
      run(kvkeep::policy{fragile{&broken}, kvkeep::read_all{}, kvkeep::cache_distance{}, kvkeep::after_step{}});
    } else {
      run(kvkeep::policy{fragile{&broken}, kvkeep::read_all{}, kvkeep::cache_distance{}, kvkeep::each_token{}});
    }
  }
}

TEST(Planner, WithoutCompactionNothingMoves) {
  const kvkeep::policy policy{
      kvkeep::keep{kvkeep::sinks{1}, kvkeep::pinned{40, 41}, kvkeep::pinned{90, 91}, kvkeep::recent{15}}};
  auto still = kvkeep::make_planner(shape, policy, {.max_step = 64, .moves = kvkeep::compaction::off});
  auto moving = kvkeep::make_planner(shape, policy, {.max_step = 64});
  std::size_t moves = 0;
  std::size_t most = 0;
  for (int i = 0; i < 30; ++i) {
    for (auto* plan : {&still, &moving}) {
      plan->begin(47);
      plan->commit();
    }
    EXPECT_TRUE(still.last().moves.empty());
    EXPECT_EQ(still.held(), moving.held());
    moves += moving.last().moves.size();
    most = std::max(most, still.block_count());
    EXPECT_LE(moving.block_count(), 3U);
  }
  EXPECT_GT(moves, 0U);
  EXPECT_GT(most, 3U);
}

TEST(Planner, TellsItsOwnListenerOnceAUnit) {
  std::vector<std::size_t> units;
  const auto listener = [&](const kvkeep::drop_event& e) { units.push_back(e.unit); };
  auto plan =
      kvkeep::make_planner({2, 1, 1, 2}, kvkeep::policy{kvkeep::keep{ragged{}}}, {.max_step = 6, .on_drop = listener});
  plan.begin(6);
  plan.commit();
  EXPECT_EQ(units, (std::vector<std::size_t>{0})) << "unit 0 keeps 4 of them, unit 1 all";
  plan.begin(6);
  plan.commit();
  EXPECT_EQ(units, (std::vector<std::size_t>{0, 0, 1}));
}

TEST(Planner, RoomIsNotEvictedFor) {
  // Three tokens of five after an erase: nothing has to go for two more, whatever their rule.
  auto plan =
      kvkeep::make_planner(shape, kvkeep::policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::recent{3}}, kvkeep::read_all{},
                                                 kvkeep::cache_distance{}, kvkeep::before_step{}});
  plan.begin(5);
  plan.commit();
  plan.erase(0, 2);
  plan.begin(2);
  plan.commit();
  plan.reserve(0);
  EXPECT_EQ(plan.held(), range(2, 6));
}

TEST(Planner, EvidenceActsEachTokenInStepsWithoutAChoice) {
  auto plan = kvkeep::make_planner(shape, kvkeep::policy{kvkeep::keep{kvkeep::recent{2}, most_surprising{2}}});
  EXPECT_EQ(plan.try_begin(5).error().argument(), "n");
  plan.begin(4);
  plan.abort();
  for (const float s : {5.0F, 1.0F, 7.0F, 2.0F, 6.0F, 1.0F, 1.0F}) {
    plan.begin(1);
    plan.commit({.surprisals = std::vector<float>{s}});
  }
  EXPECT_EQ(plan.held(), (positions{2, 4, 5, 6}));
  EXPECT_EQ(plan.try_begin(2).error().argument(), "n") << "who leaves for the second depends on the first's evidence";
}

/// Reads only every third key, and labels what is not in the last two as retrieved.
struct every_third {
  [[nodiscard]] bool reads(position query, position key) const { return (query - key) % 3 == 0; }
  [[nodiscard]] kvkeep::key_label label(position query, position key) const {
    return query - key > 2 ? kvkeep::key_label::retrieved : kvkeep::key_label::window;
  }
};

TEST(Planner, SelectRulesNarrowAndLabel) {
  const auto policy =
      kvkeep::policy{kvkeep::keep_all{50}, every_third{}, kvkeep::retrieved_at{77, kvkeep::cache_distance{}}};
  auto plan = kvkeep::make_planner(shape, policy);
  plan.begin(8);
  const reading r = read_by(plan, 7);
  EXPECT_EQ(r.keys, (positions{1, 4, 7}));
  EXPECT_EQ(r.distances, (positions{77, 77, 0}));
  EXPECT_TRUE(plan.storage().scattered);
}

}  // namespace
}  // namespace kvkeep_test
