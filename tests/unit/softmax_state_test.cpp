// The monoid of partial attention results: identity and commutativity bit for bit, associativity to 4 ulp.
#include "kvkeep/attention/softmax_state.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

struct owned_state {
  std::vector<float> values;  // [head_dim]
  kvkeep::softmax_state state;

  explicit owned_state(std::size_t dim) : values(dim, 0.0F) { state.accumulated = values; }
  owned_state(const owned_state& other) : values(other.values), state(other.state) { state.accumulated = values; }
  owned_state& operator=(const owned_state&) = delete;
};

owned_state random_state(dice& random, std::size_t dim, float spread) {
  owned_state s(dim);
  s.state.max = random.normal() * spread;
  s.state.sum = 1.0F + std::fabs(random.normal());
  for (float& x : s.values) x = random.normal();
  return s;
}

owned_state joined(const owned_state& a, const owned_state& b) {
  owned_state out = a;
  kvkeep::merge(out.state, b.state);
  return out;
}

std::vector<std::uint32_t> bits(const owned_state& s) {
  std::vector<std::uint32_t> out{std::bit_cast<std::uint32_t>(s.state.max), std::bit_cast<std::uint32_t>(s.state.sum)};
  for (const float x : s.values) out.push_back(std::bit_cast<std::uint32_t>(x));
  return out;
}

TEST(SoftmaxState, EmptyIsTheIdentityBitForBit) {
  dice random(1);
  for (int i = 0; i < 200; ++i) {
    owned_state s = random_state(random, 5, 30);
    s.values[0] = -0.0F;  // a sign that an addition of 0 would lose
    const owned_state nothing(5);
    EXPECT_EQ(bits(joined(s, nothing)), bits(s));
    EXPECT_EQ(bits(joined(nothing, s)), bits(s));
  }
  EXPECT_TRUE(joined(owned_state(3), owned_state(3)).state.empty());
}

TEST(SoftmaxState, MergeCommutesBitForBit) {
  dice random(2);
  for (int i = 0; i < 2000; ++i) {
    owned_state a = random_state(random, 7, i % 3 == 0 ? 100.0F : 3.0F);
    owned_state b = random_state(random, 7, 3);
    if (i % 5 == 0) b.state.max = a.state.max;
    EXPECT_EQ(bits(joined(a, b)), bits(joined(b, a)));
  }
}

TEST(SoftmaxState, MergeAssociatesToFourUlpOfTheLargestTerm) {
  dice random(3);
  double worst = 0;
  for (int i = 0; i < 2000; ++i) {
    const owned_state a = random_state(random, 6, 4);
    const owned_state b = random_state(random, 6, 4);
    const owned_state c = random_state(random, 6, 4);
    const owned_state left = joined(joined(a, b), c);
    const owned_state right = joined(a, joined(b, c));
    ASSERT_EQ(left.state.max, right.state.max);
    for (std::size_t j = 0; j < left.values.size(); ++j) {
      float largest = 0;
      for (const owned_state* s : {&a, &b, &c}) {
        largest = std::max(largest, std::fabs(s->values[j] * std::exp(s->state.max - left.state.max)));
      }
      const float ulp = std::nextafter(largest, INFINITY) - largest;
      worst = std::max(worst, static_cast<double>(std::fabs(left.values[j] - right.values[j]) / ulp));
    }
  }
  EXPECT_LE(worst, 4.0);
  EXPECT_GT(worst, 0.0);
}

TEST(SoftmaxState, ExponentialIsAccurateAndHandlesItsEdges) {
  double worst = 0;
  for (double x = -87.0; x <= 0.0; x += 0.00137) {
    const double truth = std::exp(static_cast<double>(static_cast<float>(x)));
    worst = std::max(worst,
                     std::fabs(static_cast<double>(kvkeep::detail::exp_below(static_cast<float>(x))) - truth) / truth);
  }
  EXPECT_LT(worst, 2e-7);
  EXPECT_EQ(kvkeep::detail::exp_below(0.0F), 1.0F);
  EXPECT_EQ(kvkeep::detail::exp_below(-88.0F), 0.0F);
  EXPECT_EQ(kvkeep::detail::exp_below(std::numeric_limits<float>::lowest()), 0.0F);
  EXPECT_EQ(kvkeep::detail::exp_below(-INFINITY), 0.0F);
  EXPECT_TRUE(std::isnan(kvkeep::detail::exp_below(NAN)));
}

}  // namespace
}  // namespace kvkeep_test
