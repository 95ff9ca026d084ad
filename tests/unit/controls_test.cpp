// The controls of comparisons: random and evenly spaced eviction, by hand, against obvious models, and by statistics.
#include <gtest/gtest.h>

#include <map>

#include "../support/cases.hpp"

namespace kvkeep_test {
namespace {

constexpr kvkeep::model_shape shape{1, 1, 1, 2};

/// Feeds tokens in steps of at most `most` until the stream has `length`.
template <class Planner>
void feed_until(Planner& plan, position length, std::size_t most) {
  while (plan.next_position() < length) {
    plan.begin(std::min(most, static_cast<std::size_t>(length - plan.next_position())));
    plan.commit();
  }
}

positions numbers_from(position first, position end) {
  positions all;
  for (position p = first; p < end; ++p) all.push_back(p);
  return all;
}

/// What is to be held of a stream of `length` tokens from `first` on: the sinks, the window, and what chosen(past) gives of
/// all that ever was between them.
template <class Chosen>
positions expected_of(position first, position length, position sinks, position window, const Chosen& chosen) {
  const position sinks_end = first + std::min(sinks, length);
  const position past_end = std::max(sinks_end, first + length - window);
  positions all = numbers_from(first, sinks_end);
  for (const position p : chosen(numbers_from(sinks_end, past_end))) all.push_back(p);
  for (const position p : numbers_from(past_end, first + length)) all.push_back(p);
  return all;
}

TEST(Interval, SetsByHand) {
  // By length of the stream: what is held. No sinks, a window of one token, four places.
  const std::map<position, positions> without_sinks{
      {1, {0}},                   // the window alone
      {5, {0, 1, 2, 3, 4}},       // the four places are full
      {6, {0, 1, 2, 4, 5}},       // of 0 .. 4: 0, 4 and 2, and the oldest odd number
      {7, {0, 1, 2, 4, 6}},       // of 0 .. 5: the same
      {8, {0, 2, 4, 6, 7}},       // of 0 .. 6: all multiples of 2
      {10, {0, 2, 4, 8, 9}},      // of 0 .. 8: the multiples of 4, and the oldest of 2, 6
      {13, {0, 2, 4, 8, 12}},     // of 0 .. 11: the same
      {14, {0, 4, 8, 12, 13}},    // of 0 .. 12: all multiples of 4
      {17, {0, 4, 8, 12, 16}},    // of 0 .. 15: the same
      {18, {0, 4, 8, 16, 17}},    // of 0 .. 16: the multiples of 8, and the oldest of 4, 12
      {26, {0, 8, 16, 24, 25}},   // of 0 .. 24: all multiples of 8
      {34, {0, 8, 16, 32, 33}}};  // of 0 .. 32: the multiples of 16, and the oldest of 8, 24
  // Three sinks, a window of two, three places.
  const std::map<position, positions> with_sinks{
      {5, {0, 1, 2, 3, 4}},
      {8, {0, 1, 2, 3, 4, 5, 6, 7}},        // of 3 .. 5: all
      {9, {0, 1, 2, 3, 4, 6, 7, 8}},        // of 3 .. 6: 4 and 6, and the oldest odd number
      {11, {0, 1, 2, 4, 6, 8, 9, 10}},      // of 3 .. 8: all multiples of 2
      {19, {0, 1, 2, 4, 8, 16, 17, 18}},    // of 3 .. 16: 8 and 16, and the oldest of 4, 12
      {41, {0, 1, 2, 8, 16, 32, 39, 40}}};  // of 3 .. 38: 16 and 32, and the oldest of 8, 24
  for (const std::size_t step : {std::size_t{1}, std::size_t{5}, std::size_t{64}}) {
    auto first = kvkeep::make_planner(shape, kvkeep::interval_eviction{.sinks = 0, .window = 1, .count = 4});
    for (const auto& [length, held] : without_sinks) {
      feed_until(first, length, step);
      EXPECT_EQ(first.held(), held) << "of " << length << " tokens";
    }
    auto second = kvkeep::make_planner(shape, kvkeep::interval_eviction{.sinks = 3, .window = 2, .count = 3});
    for (const auto& [length, held] : with_sinks) {
      feed_until(second, length, step);
      EXPECT_EQ(second.held(), held) << "of " << length << " tokens";
    }
  }
}

TEST(Interval, NumbersCountFromTheFirstToken) {
  auto plan = kvkeep::make_planner(shape, kvkeep::interval_eviction{.sinks = 0, .window = 1, .count = 4},
                                   {.first_position = 1001});
  feed_until(plan, 1001 + 14, 3);
  EXPECT_EQ(plan.held(), (positions{1001, 1005, 1009, 1013, 1014}));
}

TEST(Interval, EqualsTheSpacingOfTheWholeHistory) {
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{16}}) {
    for (const position sinks : {0, 1, 5}) {
      const kvkeep::interval_eviction policy{.sinks = static_cast<std::size_t>(sinks), .window = 3, .count = count};
      auto plan = kvkeep::make_planner(shape, policy);
      for (position length = 1; length <= 300; ++length) {
        feed_until(plan, length, 1);
        const positions expected =
            expected_of(0, length, sinks, 3, [&](const positions& past) { return spaced_of(past, count, 0); });
        ASSERT_EQ(plan.held(), expected) << "sinks " << sinks << ", count " << count << ", length " << length;
      }
    }
  }
}

TEST(Random, NumbersAreThoseOfSplitmix64) {
  // The first numbers of the generator that starts at 1234567, as published with it.
  std::uint64_t state = 1234567;
  for (const std::uint64_t expected :
       {std::uint64_t{6457827717110365317U}, std::uint64_t{3203168211198807973U}, std::uint64_t{9817491932198370423U},
        std::uint64_t{4593380528125082431U}, std::uint64_t{16408922859458223821U}}) {
    EXPECT_EQ(kvkeep::detail::splitmix64(state), expected);
    state += 0x9E3779B97F4A7C15U;
  }
}

TEST(Random, EqualsASampleOfTheWholeHistory) {
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
    for (const std::size_t step : {std::size_t{1}, std::size_t{6}}) {
      const kvkeep::random_eviction policy{.sinks = 2, .window = 3, .count = 9, .seed = seed};
      auto plan = kvkeep::make_planner(shape, policy, {.first_position = 500});
      for (position length = 1; length <= 200; length += static_cast<position>(step)) {
        feed_until(plan, 500 + length, step);
        const positions expected =
            expected_of(500, length, 2, 3, [&](const positions& past) { return sample_of(past, 9, 500, seed); });
        ASSERT_EQ(plan.held(), expected) << "seed " << seed << ", length " << length;
      }
    }
  }
}

/// How often tokens were in samples, over many of them.
class tally {
 public:
  tally(std::size_t tokens, std::size_t sampled) : sampled_(sampled), single_(tokens), next_(tokens) {}
  /// A sample: token numbers, in ascending order.
  void add(const positions& sample) {
    ++samples_;
    for (std::size_t i = 0; i < sample.size(); ++i) {
      single_[static_cast<std::size_t>(sample[i])] += 1;
      if (i > 0 && sample[i] == sample[i - 1] + 1) next_[static_cast<std::size_t>(sample[i])] += 1;
    }
  }
  /// The largest deviation from a uniform sample, of a token's count or of a pair of neighbours', in standard deviations.
  [[nodiscard]] double worst() const {
    const auto n = static_cast<double>(single_.size());
    const auto k = static_cast<double>(sampled_);
    double most = 0;
    for (const double count : single_) most = std::max(most, deviation(count, k / n));
    for (std::size_t i = 1; i < next_.size(); ++i) {
      most = std::max(most, deviation(next_[i], k * (k - 1) / (n * (n - 1))));
    }
    return most;
  }

 private:
  [[nodiscard]] double deviation(double count, double p) const {
    return std::fabs(count - samples_ * p) / std::sqrt(samples_ * p * (1 - p));
  }
  std::size_t sampled_;
  double samples_ = 0;
  std::vector<double> single_;  // [tokens]: samples with the token
  std::vector<double> next_;    // [tokens]: samples with the token and the one before
};

TEST(Random, EveryTokenIsAsLikelyAsAnyOther) {
  // 4000 seeds, samples of 8, looked at when the history has 20 and 63 tokens: 164 counts, each binomial. Were they
  // normal, one of them would be off by more than 4.5 standard deviations once in 900 such experiments.
  constexpr double bound = 4.5;
  constexpr std::size_t places = 8;
  constexpr std::uint64_t samples = 4000;
  constexpr position lengths[] = {20, 63};
  for (const std::uint64_t first_seed : {std::uint64_t{0}, std::uint64_t{1} << 40}) {
    tally early(20, places);
    tally late(63, places);
    for (std::uint64_t i = 0; i < samples; ++i) {
      auto plan = kvkeep::make_planner(
          shape, kvkeep::random_eviction{.sinks = 0, .window = 1, .count = places, .seed = first_seed + i},
          {.max_step = 64});
      for (const position length : lengths) {
        feed_until(plan, length + 1, 64);
        positions sample = plan.held();
        sample.pop_back();  // the window
        ASSERT_EQ(sample.size(), places);
        (length == 20 ? early : late).add(sample);
      }
    }
    EXPECT_LT(early.worst(), bound);
    EXPECT_LT(late.worst(), bound);
  }
  // The bound is sharp: what is wrong with other ways to draw exceeds it.
  tally any_leaves(63, places);  // each new token takes the place of any held one: favours the newest
  tally spread(63, places);      // numbers that follow the golden ratio: neighbours repel each other
  tally few_first(63, places);   // the first tokens a quarter more likely than the rest
  dice random(5);
  for (std::uint64_t i = 0; i < samples; ++i) {
    positions held = numbers_from(0, 8);
    for (position p = 8; p < 63; ++p) {
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(random.between(0, 7)));
      held.push_back(p);
    }
    any_leaves.add(held);
    const std::uint64_t start = random.next();
    const auto top = [](std::vector<std::pair<double, position>> drawn) {
      std::sort(drawn.rbegin(), drawn.rend());
      positions out;
      for (std::size_t j = 0; j < places; ++j) out.push_back(drawn[j].second);
      std::sort(out.begin(), out.end());
      return out;
    };
    std::vector<std::pair<double, position>> golden;
    std::vector<std::pair<double, position>> favoured;
    for (position p = 0; p < 63; ++p) {
      golden.emplace_back(static_cast<double>(start + static_cast<std::uint64_t>(p) * 0x9E3779B97F4A7C15U), p);
      const double uniform = static_cast<double>(random.next() >> 11U) * 0x1.0p-53;
      favoured.emplace_back(std::pow(uniform, p < 8 ? 0.8 : 1.0), p);
    }
    spread.add(top(golden));
    few_first.add(top(favoured));
  }
  EXPECT_GT(any_leaves.worst(), 2 * bound);
  EXPECT_GT(spread.worst(), bound);
  EXPECT_GT(few_first.worst(), bound);
}

TEST(Controls, WithoutPlacesOfTheirOwnAreStreamingLlm) {
  auto random = kvkeep::make_planner(shape, kvkeep::random_eviction{.sinks = 2, .window = 5, .count = 0});
  auto interval = kvkeep::make_planner(shape, kvkeep::interval_eviction{.sinks = 2, .window = 5, .count = 0});
  auto window = kvkeep::make_planner(shape, kvkeep::streaming_llm{.sinks = 2, .window = 5});
  for (position length = 1; length < 40; ++length) {
    feed_until(random, length, 1);
    feed_until(interval, length, 1);
    feed_until(window, length, 1);
    EXPECT_EQ(random.held(), window.held());
    EXPECT_EQ(interval.held(), window.held());
  }
}

TEST(Controls, KeepAsMuchAsStreamingLlmByDefault) {
  const auto capacity = [](const auto& policy) { return kvkeep::make_planner(shape, policy).capacity(); };
  EXPECT_EQ(capacity(kvkeep::random_eviction{}), capacity(kvkeep::streaming_llm{}));
  EXPECT_EQ(capacity(kvkeep::interval_eviction{}), capacity(kvkeep::streaming_llm{}));
}

TEST(Controls, ReserveTakesFromTheChosenFirst) {
  auto plan = kvkeep::make_planner(shape, kvkeep::interval_eviction{.sinks = 1, .window = 2, .count = 4});
  feed_until(plan, 20, 1);
  EXPECT_EQ(plan.held(), (positions{0, 4, 8, 12, 16, 18, 19}));
  plan.reserve(2);
  EXPECT_EQ(plan.held(), (positions{0, 8, 16, 18, 19})) << "the least round go first";
  plan.reserve(5);
  EXPECT_EQ(plan.held(), (positions{0, 19}));
  EXPECT_EQ(plan.try_reserve(7).error().argument(), "n");
}

}  // namespace
}  // namespace kvkeep_test
