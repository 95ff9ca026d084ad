// sir_llm: the default against a slow obvious model, turns against single tokens, the worked examples, and the authors' mode
// on small cases that one can follow by hand.
#include "kvkeep/policy/sir_llm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::position;
using kvkeep::sir_llm;
using positions = std::vector<position>;
constexpr kvkeep::model_shape shape{1, 2, 1, 4};
constexpr float infinite = std::numeric_limits<float>::infinity();

auto planner_of(const auto& policy, std::size_t max_step = 32) {
  return kvkeep::make_planner(shape, policy, {.max_step = max_step});
}
void feed(auto& plan, const std::vector<float>& told) {
  plan.begin(told.size());
  plan.commit({.surprisals = told});
}

/// sir_llm in words: a list of tokens, sorted whenever somebody must leave.
class slow_model {
 public:
  slow_model(std::size_t sinks, std::size_t window, std::size_t count, double decay)
      : sinks_(sinks), window_(window), count_(count), decay_(decay) {}

  void token(float told) {
    held_.push_back({next_++, 0, told, true});
    if (held_.size() > sinks_ + window_ + count_) trim(window_, count_);
    held_.back().fresh = false;
  }
  void reserve(std::size_t n) {
    if (held_.size() + n <= sinks_ + window_ + count_) return;
    const std::size_t of_count = std::min(n, count_);
    trim(window_ - std::min(n - of_count, window_), count_ - of_count);
  }
  void end_turn() {
    for (entry& e : held_) ++e.turns;
  }
  [[nodiscard]] positions held() const {
    positions out;
    for (const entry& e : held_) out.push_back(e.at);
    return out;
  }

 private:
  struct entry {
    position at;
    int turns;  // that ended since it came
    float told;
    bool fresh;
  };
  /// From what it was told: nothing is remembered of earlier turns but how many there were.
  [[nodiscard]] double value(const entry& e) const {
    double v = static_cast<double>(e.told);
    for (int t = 0; t < e.turns; ++t) v *= decay_;
    return v;
  }
  void trim(std::size_t window, std::size_t count) {
    std::vector<entry> sinks;
    std::vector<entry> rest;
    for (const entry& e : held_) (e.at < static_cast<position>(sinks_) ? sinks : rest).push_back(e);
    const std::size_t recent = std::min(window, rest.size());
    const std::vector<entry> newest(rest.end() - static_cast<std::ptrdiff_t>(recent), rest.end());
    rest.resize(rest.size() - recent);
    std::stable_sort(rest.begin(), rest.end(), [&](const entry& a, const entry& b) {
      return a.fresh != b.fresh ? a.fresh : value(a) > value(b);  // equal ones stay as they are: the older first
    });
    rest.resize(std::min(count, rest.size()));
    held_ = sinks;
    held_.insert(held_.end(), rest.begin(), rest.end());
    held_.insert(held_.end(), newest.begin(), newest.end());
    std::sort(held_.begin(), held_.end(), [](const entry& a, const entry& b) { return a.at < b.at; });
  }

  std::size_t sinks_;
  std::size_t window_;
  std::size_t count_;
  double decay_;
  position next_ = 0;
  std::vector<entry> held_;
};

/// One of few values, so that tokens tie, and now and then infinity or zero.
float some_surprisal(dice& random) {
  const std::size_t roll = random.between(0, 24);
  if (roll == 0) return infinite;
  return roll == 1 ? 0.0F : 0.25F * static_cast<float>(random.between(1, 12));
}

struct setting {
  std::size_t sinks;
  std::size_t window;
  std::size_t count;
  double decay;
};
constexpr setting settings[] = {{4, 6, 9, 0.7}, {0, 5, 7, 1.0}, {3, 0, 12, 0.9}, {2, 9, 1, 0.5}, {0, 0, 3, 1.0}};

/// What must hold of any stream whatever else is kept.
void expect_in_order(const positions& held, const setting& s, position next) {
  ASSERT_LE(held.size(), s.sinks + s.window + s.count);
  ASSERT_TRUE(std::is_sorted(held.begin(), held.end()));
  ASSERT_EQ(std::adjacent_find(held.begin(), held.end()), held.end()) << "nobody is held twice";
  const position sinks = std::min(next, static_cast<position>(s.sinks));
  for (position p = 0; p < sinks; ++p) ASSERT_EQ(held[static_cast<std::size_t>(p)], p) << "sinks stay";
}

TEST(SirLlm, TokenByTokenEqualsTheSlowModel) {
  for (const setting& s : settings) {
    SCOPED_TRACE(fmt::format("{} + {} + {}, decay {}", s.sinks, s.window, s.count, s.decay));
    auto plan = planner_of(sir_llm{s.sinks, s.window, s.count, s.decay});
    slow_model model(s.sinks, s.window, s.count, s.decay);
    dice random(s.count);
    for (position t = 0; t < 700; ++t) {
      const float told = some_surprisal(random);
      feed(plan, {told});
      model.token(told);
      if (random.chance(0.15)) {
        plan.end_turn();
        model.end_turn();
      }
      ASSERT_EQ(plan.held(), model.held()) << "after token " << t;
      ASSERT_NO_FATAL_FAILURE(expect_in_order(plan.held(), s, t + 1));
    }
  }
}

TEST(SirLlm, TurnsInStepsOfAnySizeEqualTheSlowModel) {
  for (const setting& s : settings) {
    SCOPED_TRACE(fmt::format("{} + {} + {}, decay {}", s.sinks, s.window, s.count, s.decay));
    auto plan = planner_of(sir_llm{s.sinks, s.window, s.count, s.decay});
    slow_model model(s.sinks, s.window, s.count, s.decay);
    dice random(100 + s.count);
    for (int turn = 0; turn < 150; ++turn) {
      const std::size_t n = random.between(1, s.window + s.count);
      plan.reserve(n);
      model.reserve(n);
      ASSERT_EQ(plan.held(), model.held());
      ASSERT_LE(plan.held_count() + n, s.sinks + s.window + s.count);
      for (std::size_t left = n; left > 0;) {
        const std::size_t step = random.between(1, left);
        std::vector<float> told;
        for (std::size_t i = 0; i < step; ++i) told.push_back(some_surprisal(random));
        feed(plan, told);
        for (const float x : told) model.token(x);
        left -= step;
      }
      plan.end_turn();
      model.end_turn();
      ASSERT_EQ(plan.held(), model.held()) << "after turn " << turn;
      ASSERT_NO_FATAL_FAILURE(expect_in_order(plan.held(), s, plan.next_position()));
    }
  }
}

TEST(SirLlm, TurnsOfOneTokenAreSingleTokensWhereThereIsNoWindow) {
  const sir_llm policy{.sinks = 2, .window = 0, .count = 8, .decay = 0.8};
  auto turns = planner_of(policy);
  auto tokens = planner_of(policy);
  dice random(4);
  for (int t = 0; t < 400; ++t) {
    const float told = some_surprisal(random);
    turns.reserve(1);
    feed(turns, {told});
    feed(tokens, {told});
    turns.end_turn();
    tokens.end_turn();
    ASSERT_EQ(turns.held(), tokens.held());
  }
}

TEST(SirLlm, DecaysWhetherOrNotAnybodyLeaves) {
  // Turn 1 tells 8, turn 2 tells 5: at the third turn they are worth 2 and 2.5, and the newer one stays.
  auto plan = planner_of(sir_llm{.sinks = 0, .window = 0, .count = 2, .decay = 0.5});
  feed(plan, {8.0F});
  plan.end_turn();
  feed(plan, {5.0F});
  plan.end_turn();
  EXPECT_EQ(plan.held(), (positions{0, 1}));
  plan.reserve(1);
  EXPECT_EQ(plan.held(), (positions{1}));

  auto never = planner_of(sir_llm{.sinks = 0, .window = 0, .count = 2, .decay = 1.0});
  feed(never, {8.0F});
  for (int i = 0; i < 1000; ++i) never.end_turn();
  feed(never, {5.0F});
  never.reserve(1);
  EXPECT_EQ(never.held(), (positions{0})) << "decay 1 keeps ranks";
}

TEST(SirLlm, FadesInTheRightOrderForThousandsOfTurns) {
  // Turns of one token, against ln told + turns * ln decay. The values themselves are no numbers any more after 320 turns at
  // 0.1 and 1,075 at 0.5.
  for (const double decay : {1e-310, 0.1, 0.5, 0.9}) {
    SCOPED_TRACE(decay);
    const std::size_t count = 1500;
    auto plan = planner_of(sir_llm{.sinks = 0, .window = 0, .count = count, .decay = decay}, 1);
    std::map<position, double> held;  // ln of the value when it came, less its turn's number times ln decay
    dice random(9);
    for (position t = 0; t < 4000; ++t) {
      const float told = 0.01F + 10.0F * static_cast<float>(random.between(0, 1000000)) / 1e6F;
      if (held.size() == count) {
        const auto least = std::min_element(held.begin(), held.end(),
                                            [](const auto& a, const auto& b) { return a.second < b.second; });
        held.erase(least);
      }
      held[t] = std::log(static_cast<double>(told)) - static_cast<double>(t) * std::log(decay);
      feed(plan, {told});
      plan.end_turn();
      if (t % 500 != 499) continue;
      positions expected;
      for (const auto& [at, value] : held) expected.push_back(at);
      ASSERT_EQ(plan.held(), expected) << "after turn " << t;
    }
  }
  auto never = planner_of(sir_llm{.sinks = 0, .window = 0, .count = 2, .decay = 0.1});
  feed(never, {0.0F, 1.0F});
  for (int i = 0; i < 5000; ++i) never.end_turn();
  feed(never, {0.0F});
  EXPECT_EQ(never.held(), (positions{1, 2})) << "however faded, more than nothing";
}

/// Runs reserve(n) for every n that is allowed, and the turn that it promises room for.
template <class Policy>
void expect_reserved_turns_fit(const Policy& policy, const std::vector<std::pair<position, position>>& erased,
                               std::size_t tokens) {
  for (std::size_t n = 1; n < 40; ++n) {
    auto plan = planner_of(policy, 40);
    for (std::size_t t = 0; t < tokens; ++t) feed(plan, {static_cast<float>(t % 7)});
    for (const auto& [first, last] : erased) plan.erase(first, last);
    const positions before = plan.held();
    if (!plan.try_reserve(n)) {
      EXPECT_EQ(plan.held(), before);
      EXPECT_GT(n, 11U) << "sinks and pinned tokens are few";
      continue;
    }
    const auto began = plan.try_begin(n);
    ASSERT_TRUE(began) << n << ": " << began.error().message();
    plan.commit({.surprisals = std::vector<float>(n, 1.0F)});
    // Nobody left who need not. (A step of one token may do without reserve: somebody leaves for it.)
    if (n > 1 && plan.held_count() < before.size() + n) {
      auto again = planner_of(policy, 40);
      for (std::size_t t = 0; t < tokens; ++t) feed(again, {static_cast<float>(t % 7)});
      for (const auto& [first, last] : erased) again.erase(first, last);
      EXPECT_FALSE(again.try_begin(n)) << n << ": it would have fitted without reserve";
    }
  }
}

TEST(SirLlm, ReservedTurnsFitWhateverSharesAreFree) {
  using namespace kvkeep;
  const auto rules = [](auto... rule) { return policy{keep{rule...}, read_all{}, cache_distance{}}; };
  const top most{surprisal{.decay = 0.9}, 8};
  expect_reserved_turns_fit(rules(sinks{4}, pinned{0, 8}, recent{4}, most), {},
                            14);  // the prompt is pinned, sinks and all
  expect_reserved_turns_fit(rules(sinks{4}, pinned{0, 8}, recent{4}, most), {}, 30);
  expect_reserved_turns_fit(rules(pinned{30, 40}, recent{4}, most), {}, 0);  // what is pinned has not come yet
  expect_reserved_turns_fit(rules(pinned{30, 40}, recent{4}, most), {}, 25);
  expect_reserved_turns_fit(sir_llm{.sinks = 2, .window = 2, .count = 9}, {{0, 2}}, 5);  // sinks were erased
  expect_reserved_turns_fit(sir_llm{.sinks = 4, .window = 3, .count = 8}, {{1, 3}, {20, 25}}, 28);
}

TEST(SirLlm, RefusesTurnsOfAnySizeThatCannotFit) {
  for (const std::size_t held : {std::size_t{0}, std::size_t{3}, std::size_t{20}}) {
    auto plan = planner_of(sir_llm{.sinks = 1, .window = 2, .count = 3});
    auto all = planner_of(kvkeep::dense{.max_tokens = 30});
    for (std::size_t t = 0; t < held; ++t) feed(plan, {1.0F});
    if (held > 0) {
      all.begin(held);
      all.commit();
    }
    const positions before = plan.held();
    for (std::size_t less = 0; less < 5; ++less) {
      const auto refused = plan.try_reserve(std::numeric_limits<std::size_t>::max() - less);
      ASSERT_FALSE(refused) << held << ", " << less;
      EXPECT_EQ(refused.error().argument(), "n");
      EXPECT_FALSE(all.try_reserve(std::numeric_limits<std::size_t>::max() - less));
    }
    EXPECT_EQ(plan.held(), before);
  }
}

TEST(SirLlm, InfinitiesRankFirstForEver) {
  auto plan = planner_of(sir_llm{.sinks = 0, .window = 0, .count = 3, .decay = 0.1});
  feed(plan, {infinite});
  for (int i = 0; i < 2000; ++i) plan.end_turn();
  feed(plan, {3.0e38F});
  feed(plan, {1.0F});
  for (int i = 0; i < 5; ++i) feed(plan, {0.5F});
  EXPECT_EQ(plan.held()[0], 0);
  feed(plan, {infinite});
  for (int i = 0; i < 5; ++i) feed(plan, {2.0F});
  EXPECT_EQ(plan.held()[0], 0) << "of two infinities too, the older";
}

TEST(SirLlm, StepsThatWouldNeedToChooseAreRefusedAndChangeNothing) {
  auto plan = planner_of(sir_llm{.sinks = 1, .window = 2, .count = 3});
  feed(plan, {1, 2, 3, 4});
  const auto refusal = plan.try_begin(4);
  ASSERT_FALSE(refusal);
  EXPECT_EQ(refusal.error().argument(), "n");
  EXPECT_NE(refusal.error().message().find("n = 4; allowed: 1 .. 2"), std::string::npos) << refusal.error().message();
  EXPECT_NE(refusal.error().message().find("reserve(4)"), std::string::npos) << refusal.error().message();
  EXPECT_FALSE(plan.open());
  EXPECT_EQ(plan.held(), (positions{0, 1, 2, 3}));
  plan.begin(2);
  plan.commit({.surprisals = std::vector<float>{9, 9}});
  EXPECT_NE(plan.try_begin(2).error().message().find("n = 2; allowed: 1 .. 1"), std::string::npos);
  feed(plan, {9});  // somebody leaves, but for the first token of the step
  EXPECT_EQ(plan.held(), (positions{0, 2, 3, 4, 5, 6}));

  const auto too_long = plan.try_reserve(6);
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().argument(), "n");
  EXPECT_NE(too_long.error().message().find("allowed: 0 .. 5"), std::string::npos) << too_long.error().message();
  EXPECT_EQ(plan.held(), (positions{0, 2, 3, 4, 5, 6}));
  plan.reserve(5);
  EXPECT_EQ(plan.held(), (positions{0}));
}

TEST(SirLlm, RefusesBadParametersAndBadEvidence) {
  const auto fault = [](const sir_llm& policy) {
    const auto made = kvkeep::try_make_planner(shape, policy);
    return made ? std::string("none") : made.error().message();
  };
  for (const double decay : {0.0, -0.5, 1.0001, std::nan(""), static_cast<double>(infinite)}) {
    EXPECT_NE(fault({.decay = decay}).find(fmt::format("decay = {}; allowed: greater than 0, up to 1", decay)),
              std::string::npos)
        << fault({.decay = decay});
  }
  EXPECT_NE(fault({.count = 0}).find("count = 0; allowed: 1 .. "), std::string::npos);
  EXPECT_EQ(fault({.sinks = 0, .window = 0, .count = 1, .decay = 1e-300}), "none");
  const kvkeep::policy by_hand{kvkeep::keep{kvkeep::top{kvkeep::surprisal{.decay = 2.0}, 5}}};
  const auto made = kvkeep::try_make_planner(shape, by_hand);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().argument(), "surprisal.decay");

  auto plan = planner_of(sir_llm{.sinks = 1, .window = 1, .count = 1});
  plan.begin(2);
  EXPECT_EQ(plan.try_commit({.surprisals = std::vector<float>{1.0F, NAN}}).error().argument(), "surprisals[1]");
  for (const float below : {-1e-6F, -infinite}) {
    EXPECT_EQ(plan.try_commit({.surprisals = std::vector<float>{below, 1.0F}}).error().argument(), "surprisals[0]");
  }
  EXPECT_EQ(plan.try_commit({.surprisals = std::vector<float>{1.0F}}).error().argument(), "surprisals");
  EXPECT_EQ(plan.try_commit({.surprisals = std::vector<float>{1.0F, 1.0F, 1.0F}}).error().argument(), "surprisals");
  EXPECT_EQ(plan.try_commit(1, {.surprisals = std::vector<float>{1.0F, 1.0F}}).error().argument(), "surprisals")
      << "one a committed token, not one a token of the step";
  EXPECT_EQ(plan.try_commit().error().argument(), "surprisals");
  EXPECT_TRUE(plan.open()) << "the step is as it was";
  plan.commit({.surprisals = std::vector<float>{1.0F, 2.0F}});
}

TEST(SirLlm, ComposesWithOtherRulesAndDistances) {
  const kvkeep::policy mine{kvkeep::keep{kvkeep::sinks{1}, kvkeep::pinned{3, 5}, kvkeep::recent{2},
                                         kvkeep::top{kvkeep::surprisal{.decay = 0.9}, 2}},
                            kvkeep::read_all{}, kvkeep::beyond{4, 4}};
  auto cache = kvkeep::make_cache<kvkeep::f16, kvkeep::bf16>(shape, mine, {.max_step = 4});
  std::vector<float> row(2 * 4, 0.5F);
  for (int t = 0; t < 30; ++t) {
    auto step = cache.begin(1);
    step.attend(0, {row.data(), 1, 2, 4}, {row.data(), 1, 1, 4}, {row.data(), 1, 1, 4}, {row.data(), 1, 2, 4});
    step.commit({.surprisals = std::vector<float>{t == 7 || t == 11 ? 5.0F : 1.0F}});
  }
  EXPECT_EQ(cache.held(), (positions{0, 3, 4, 7, 11, 28, 29}));
}

// The authors' mode. Eight tokens are held, told 9 1 5 2 7 3 8 4, when a turn comes.

positions kept_for_turn(const sir_llm::published& policy, std::size_t n, const std::vector<float>& told) {
  auto plan = planner_of(policy);
  feed(plan, told);
  plan.begin(n);
  plan.commit({.surprisals = std::vector<float>(n, 1.0F)});
  positions held = plan.held();
  held.resize(held.size() - n);
  return held;
}

TEST(SirLlmPublished, PaysWithTheMostSurprisingAndFillsWithTheNewest) {
  const std::vector<float> told{9, 1, 5, 2, 7, 3, 8, 4};
  using published = sir_llm::published;
  EXPECT_EQ(kept_for_turn(published{2, 0, 6, 1.0}, 2, told), (positions{0, 1, 2, 4, 6, 7}));
  EXPECT_EQ(kept_for_turn(published{2, 0, 6, 1.0}, 3, told), (positions{0, 1, 4, 6, 7}));
  EXPECT_EQ(kept_for_turn(published{2, 2, 4, 1.0}, 2, told), (positions{0, 1, 4, 5, 6, 7}));
  EXPECT_EQ(kept_for_turn(published{2, 0, 8, 1.0}, 2, std::vector<float>(10, 1.0F)),
            (positions{0, 1, 2, 3, 4, 5, 8, 9}))
      << "ties: the older is chosen, the newer fills";
  EXPECT_EQ(kept_for_turn(published{2, 4, 2, 1.0}, 4, told), (positions{0, 1, 6, 7})) << "more come than are ranked";
  EXPECT_EQ(kept_for_turn(published{0, 8, 2, 1.0}, 3, told), (positions{1, 2, 3, 4, 5, 6, 7}))
      << "the first never fills, and was not ranked";
  auto plan = planner_of(published{2, 2, 4, 1.0});
  feed(plan, told);
  const auto refusal = plan.try_begin(7);
  ASSERT_FALSE(refusal);
  EXPECT_NE(refusal.error().message().find("n = 7; allowed: 0 .. 6"), std::string::npos) << refusal.error().message();
  EXPECT_EQ(plan.held_count(), 8U);
}

TEST(SirLlmPublished, FadesOnceAStepAndBeforeNewValuesCome) {
  // Values at the third step: token 0 has faded twice, 8 to 2, token 1 once, 5 to 2.5.
  auto plan = planner_of(sir_llm::published{0, 0, 3, 0.5});
  feed(plan, {8.0F});
  feed(plan, {5.0F});
  plan.end_turn();  // nothing to do here
  feed(plan, {1.0F});
  feed(plan, {1.0F});
  EXPECT_EQ(plan.held(), (positions{0, 1, 3})) << "2 and 2.5 beat the third token's 1";
  feed(plan, {1.0F});
  EXPECT_EQ(plan.held(), (positions{0, 1, 4})) << "1 and 1.25 beat the fourth's, the older of equals";
  EXPECT_EQ(plan.next_held(), (positions{1, 4})) << "they faded to 0.5 and 0.625, and the fifth's 1 is fresh";
}

}  // namespace
}  // namespace kvkeep_test
