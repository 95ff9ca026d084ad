// RoPE, ALiBi and distance rules by themselves, and exactness at stream position 10^9.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::position;

TEST(Rope, TurnsPairsOfBothLayouts) {
  const std::vector<float> row{1, 2, 3, 4, 5, 6};
  const std::vector<double> inverse{0.5, 0.01};
  std::vector<double> cosine(2);
  std::vector<double> sine(2);
  kvkeep::fill_angles(7, inverse, cosine, sine);
  for (const auto layout : {kvkeep::rope_layout::half_split, kvkeep::rope_layout::interleaved}) {
    std::vector<double> out(6);
    kvkeep::rotate_row(layout, cosine, sine, 2.0, row, out.data());
    for (std::size_t j = 0; j < 2; ++j) {
      const std::size_t x = layout == kvkeep::rope_layout::half_split ? j : 2 * j;
      const std::size_t y = layout == kvkeep::rope_layout::half_split ? j + 2 : 2 * j + 1;
      const auto turned = 2.0 * std::complex<double>(static_cast<double>(row[x]), static_cast<double>(row[y])) *
                          std::polar(1.0, 7 * inverse[j]);
      EXPECT_NEAR(out[x], turned.real(), 1e-12);
      EXPECT_NEAR(out[y], turned.imag(), 1e-12);
    }
    EXPECT_EQ(out[4], 5.0) << "components beyond rotary_dim pass, without the factor";
    EXPECT_EQ(out[5], 6.0);
  }
}

TEST(Rope, RefusesBadParametersByName) {
  const auto fault = [](const kvkeep::rope& r, std::size_t head_dim = 8, std::size_t length = 1) {
    const auto made = kvkeep::try_rope_frequencies(r, head_dim, length);
    return made ? std::string("none") : made.error().argument();
  };
  EXPECT_EQ(fault({}), "none");
  EXPECT_EQ(fault({.theta = 0}), "theta");
  EXPECT_EQ(fault({.theta = -1}), "theta");
  EXPECT_EQ(fault({.theta = NAN}), "theta");
  EXPECT_EQ(fault({.theta = INFINITY}), "theta");
  EXPECT_EQ(fault({.rotary_dim = 3}), "rotary_dim");
  EXPECT_EQ(fault({.rotary_dim = 10}), "rotary_dim");
  EXPECT_EQ(fault({}, 7), "rotary_dim") << "an odd head_dim cannot turn whole";
  EXPECT_EQ(fault({.rotary_dim = 6}, 7), "none");
  EXPECT_EQ(fault({.scaling = kvkeep::linear_scaling{NAN}}), "linear_scaling.factor");
  EXPECT_EQ(fault({.scaling = kvkeep::ntk_scaling{0}}), "ntk_scaling.factor");
  EXPECT_EQ(fault({.rotary_dim = 2, .scaling = kvkeep::ntk_scaling{2}}), "rotary_dim");
  EXPECT_EQ(fault({.scaling = kvkeep::dynamic_ntk_scaling{2, NAN}}), "dynamic_ntk_scaling.original_max_position");
  EXPECT_EQ(fault({.scaling = kvkeep::yarn_scaling{.factor = 2}}), "yarn_scaling.original_max_position");
  EXPECT_EQ(fault({.scaling = kvkeep::yarn_scaling{.factor = 2, .original_max_position = 64, .attention_factor = NAN}}),
            "yarn_scaling.attention_factor");
  EXPECT_EQ(fault({.scaling = kvkeep::llama3_scaling{.factor = 8, .original_max_position = 64, .high_freq_factor = 1}}),
            "llama3_scaling.high_freq_factor");
  EXPECT_EQ(
      fault({.scaling = kvkeep::longrope_scaling{.short_factor = {1, 1}, .factor = 2, .original_max_position = 64}}),
      "longrope_scaling.short_factor");
}

TEST(Rope, LengthComesFromThePolicyOrTheUser) {
  const kvkeep::model_shape shape{1, 1, 1, 8};
  const kvkeep::rope scaled{.scaling = kvkeep::dynamic_ntk_scaling{4.0, 16.0}};
  // A window of 100 can produce distance 99, so the frequencies are those of length 100.
  auto window = kvkeep::make_cache(shape, kvkeep::sliding_window{.window = 100}, {.positions = scaled});
  kvkeep::rope explicit_length = scaled;
  explicit_length.length = 100;
  auto given = kvkeep::make_cache(shape, kvkeep::sliding_window{.window = 100}, {.positions = explicit_length});
  EXPECT_EQ(feed(window, shape, 50), feed(given, shape, 50));
  explicit_length.length = 1000;
  auto longer = kvkeep::make_cache(shape, kvkeep::sliding_window{.window = 100}, {.positions = explicit_length});
  feed(longer, shape, 50);
  EXPECT_NE(stored(longer, 0, 0), stored(given, 0, 0)) << "another length, other frequencies";
  // Sinks at their true distance go on for ever: no largest distance, so the user must say.
  const auto endless = kvkeep::policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::recent{9}}};
  const auto refused = kvkeep::try_make_cache(shape, endless, {.positions = scaled});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().argument(), "rope.length");
  EXPECT_TRUE(kvkeep::try_make_cache(shape, endless, {.positions = explicit_length}));
}

TEST(Rope, AppliedByTheEngineGivesTheSame) {
  const kvkeep::model_shape shape{1, 2, 1, 8};
  const kvkeep::rope r{.theta = 500.0, .scaling = kvkeep::yarn_scaling{.factor = 3, .original_max_position = 20}};
  kvkeep::rope applied = r;
  applied.applied = true;
  const auto frequencies = kvkeep::make_rope_frequencies(r, 8, 0);
  const kvkeep::streaming_llm policy{.sinks = 2, .window = 7};
  auto ours = kvkeep::make_cache(shape, policy, {.positions = r});
  auto theirs = kvkeep::make_cache(shape, policy, {.positions = applied});
  for (int i = 0; i < 20; ++i) {
    const position at = ours.next_position();
    const auto expected = feed(ours, shape, 3);
    layer_rows rows = rows_of(shape, 0, at, 3);
    const auto turn = [&](std::vector<float>& data, std::size_t heads) {
      for (std::size_t t = 0; t < 3; ++t) {
        for (std::size_t h = 0; h < heads; ++h) {
          std::vector<double> cosine(4);
          std::vector<double> sine(4);
          kvkeep::fill_angles(at + static_cast<position>(t), frequencies.inverse, cosine, sine);
          float* const row = data.data() + (t * heads + h) * 8;
          kvkeep::rotate_row(r.layout, cosine, sine, frequencies.attention_factor, {row, 8}, row);
        }
      }
    };
    turn(rows.q, 2);
    turn(rows.k, 1);
    auto step = theirs.begin(3);
    step.attend(0, view(std::as_const(rows.q), 3, 2, 8), view(std::as_const(rows.k), 3, 1, 8),
                view(std::as_const(rows.v), 3, 1, 8), view(rows.out, 3, 2, 8));
    step.commit();
    EXPECT_LT(max_difference(rows.out, expected[0]), 2e-6);
  }
  // Also with holes: every run of what is left has an offset of its own.
  auto ours_holed = kvkeep::make_cache(shape, policy, {.positions = r});
  auto theirs_holed = kvkeep::make_cache(shape, policy, {.positions = applied});
  for (int i = 0; i < 20; ++i) {
    const position at = ours_holed.next_position();
    const auto expected = feed(ours_holed, shape, 1);
    layer_rows rows = rows_of(shape, 0, at, 1);
    std::vector<double> cosine(4);
    std::vector<double> sine(4);
    kvkeep::fill_angles(at, frequencies.inverse, cosine, sine);
    const auto turn = [&](float* row) {
      kvkeep::rotate_row(r.layout, cosine, sine, frequencies.attention_factor, {row, 8}, row);
    };
    turn(rows.q.data());
    turn(rows.q.data() + 8);
    turn(rows.k.data());
    auto step = theirs_holed.begin(1);
    step.attend(0, view(std::as_const(rows.q), 1, 2, 8), view(std::as_const(rows.k), 1, 1, 8),
                view(std::as_const(rows.v), 1, 1, 8), view(rows.out, 1, 2, 8));
    step.commit();
    EXPECT_LT(max_difference(rows.out, expected[0]), 2e-6);
    if (i % 4 == 3) {
      ours_holed.erase(at - 2, at - 1);
      theirs_holed.erase(at - 2, at - 1);
    }
  }
  const auto refused =
      kvkeep::try_make_cache(shape, kvkeep::lm_infinite{.sinks = 2, .window = 7}, {.positions = applied});
  ASSERT_FALSE(refused) << "sinks beyond the window need raw keys";
  EXPECT_EQ(refused.error().argument(), "rope.applied");
  EXPECT_TRUE(kvkeep::try_make_cache(shape, kvkeep::lm_infinite{.sinks = 0, .window = 7}, {.positions = applied}));
}

TEST(Alibi, PublishedSlopes) {
  EXPECT_EQ(kvkeep::alibi_slopes(8),
            (std::vector<float>{0.5F, 0.25F, 0.125F, 0.0625F, 0.03125F, 0.015625F, 0.0078125F, 0.00390625F}));
  const auto twelve = kvkeep::alibi_slopes(12);
  ASSERT_EQ(twelve.size(), 12U);
  EXPECT_EQ(twelve[7], 0.00390625F);
  EXPECT_FLOAT_EQ(twelve[8], 0.70710678F);
  EXPECT_FLOAT_EQ(twelve[11], 0.088388346F);
}

TEST(Alibi, SinksHaveAConstantBiasInTheCache) {
  // StreamingLLM with ALiBi: window keys at true distances, sink j at the constant sinks + window - 1 - j. With equal keys the
  // softmax weights are those of the biases alone.
  const kvkeep::model_shape shape{1, 1, 1, 4};
  auto cache =
      kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 1, .window = 3}, {.positions = kvkeep::alibi{{0.5F}}});
  const std::vector<float> ones(4, 1.0F);
  std::vector<float> value(4);
  std::vector<float> out(4);
  for (int i = 0; i < 40; ++i) {
    value = {i == 0 ? 1.0F : 0.0F, i == 37 ? 1.0F : 0.0F, i == 38 ? 1.0F : 0.0F, i == 39 ? 1.0F : 0.0F};
    auto step = cache.begin(1);
    step.attend(0, view(ones, 1, 1, 4), view(ones, 1, 1, 4), view(std::as_const(value), 1, 1, 4), view(out, 1, 1, 4));
    step.commit();
  }
  const double sum = std::exp(-1.5) + std::exp(-1.0) + std::exp(-0.5) + 1.0;
  EXPECT_NEAR(static_cast<double>(out[0]), std::exp(-1.5) / sum, 1e-6);
  EXPECT_NEAR(static_cast<double>(out[1]), std::exp(-1.0) / sum, 1e-6);
  EXPECT_NEAR(static_cast<double>(out[2]), std::exp(-0.5) / sum, 1e-6);
  EXPECT_NEAR(static_cast<double>(out[3]), 1.0 / sum, 1e-6);
}

TEST(Distance, WorkedExampleOfTheTwoRotations) {
  // d = 2, theta = 1, all q = k = (1, 0), S = 1, append then evict with R = 2: distances 3, 2, 1, 0. LM-Infinite with one sink
  // and window 3 gives the same.
  const kvkeep::model_shape shape{1, 1, 1, 2};
  const kvkeep::rope one{.theta = 1.0};
  const std::vector<double> expected{0.10487, 0.15735, 0.30946, 0.42832};
  const auto weights = [&](auto cache) {
    std::vector<double> found;
    for (int which : {0, 3, 4, 5}) {
      cache.clear();
      std::vector<float> out(2);
      for (int t = 0; t <= 5; ++t) {
        const std::vector<float> q{1.0F, 0.0F};
        const std::vector<float> v{t == which ? 1.0F : 0.0F, 0.0F};
        auto step = cache.begin(1);
        step.attend(0, view(q, 1, 1, 2), view(q, 1, 1, 2), view(v, 1, 1, 2), view(out, 1, 1, 2));
        step.commit();
      }
      found.push_back(static_cast<double>(out[0]));
    }
    return found;
  };
  using published = kvkeep::streaming_llm::published;
  const kvkeep::cache_options options{.positions = one};
  EXPECT_LT(max_difference(
                weights(kvkeep::make_cache(
                    shape, published{.start = 1, .recent = 2, .order = published::orders::append_then_evict}, options)),
                expected),
            6e-6);
  EXPECT_LT(max_difference(weights(kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 1, .window = 3}, options)),
                           expected),
            6e-6);
  EXPECT_LT(max_difference(weights(kvkeep::make_cache(shape, kvkeep::lm_infinite{.sinks = 1, .window = 3}, options)),
                           expected),
            6e-6);
}

/// Differences of the scores of a query at its cache, read off the softmax weights: values are one-hot.
template <class Policy, class Away>
double score_error(const Policy& policy, position first, std::size_t tokens, const Away& away) {
  constexpr std::size_t dim = 64;
  const kvkeep::model_shape shape{1, 1, 1, dim};
  const kvkeep::rope r{.theta = 10000.0};
  auto cache = kvkeep::make_cache(shape, policy, {.positions = r, .first_position = first, .scale = 0.05F});
  std::vector<float> out(dim);
  layer_rows last;
  for (std::size_t t = 0; t < tokens; ++t) {
    last = rows_of(shape, 0, first + static_cast<position>(t), 1);
    std::vector<float> value(dim, 0.0F);
    value[t % dim] = 1.0F;  // what is read spans fewer than dim tokens after the sinks
    auto step = cache.begin(1);
    step.attend(0, view(std::as_const(last.q), 1, 1, dim), view(std::as_const(last.k), 1, 1, dim),
                view(std::as_const(value), 1, 1, dim), view(out, 1, 1, dim));
    step.commit();
  }
  const auto score = [&](position key) {
    const layer_rows row = rows_of(shape, 0, key, 1);
    long double sum = 0;
    const auto distance = static_cast<long double>(away(key));
    for (std::size_t j = 0; j < dim / 2; ++j) {
      const long double angle = distance * std::pow(10000.0L, -2.0L * static_cast<long double>(j) / dim);
      const long double qx = last.q[j];
      const long double qy = last.q[j + dim / 2];
      const long double kx = row.k[j];
      const long double ky = row.k[j + dim / 2];
      sum += (qx * std::cos(angle) - qy * std::sin(angle)) * kx + (qx * std::sin(angle) + qy * std::cos(angle)) * ky;
    }
    return 0.05L * sum;
  };
  const auto norm = [&](const std::vector<float>& row) {
    long double sum = 0;
    for (const float x : row) sum += static_cast<long double>(x) * static_cast<long double>(x);
    return std::sqrt(sum);
  };
  double worst = 0;
  const position query = first + static_cast<position>(tokens) - 1;
  const long double own = score(query);
  const auto own_weight = static_cast<long double>(out[(tokens - 1) % dim]);
  for (const position key : cache.held()) {
    const auto weight = static_cast<long double>(out[static_cast<std::size_t>(key - first) % dim]);
    const long double error = std::log(weight / own_weight) - (score(key) - own);
    const long double bound = 0.05L * norm(last.q) * (norm(rows_of(shape, 0, key, 1).k) + norm(last.k));
    worst = std::max(worst, static_cast<double>(std::fabs(error) / bound));
  }
  return worst;
}

TEST(Position, ScoresAreExactAtABillion) {
  // |score - truth| <= 1e-6 |q| |k| against long double, for every distance rule, wherever the stream stands. Two scores
  // are compared, so the bound is that of both.
  for (const position first : {position{0}, position{1'000'000'000}, position{1'000'000'000} + 12345,
                               position{1'000'000'000'000'000}, kvkeep::position_limit - 100}) {
    const position last = first + 99;
    EXPECT_LT(score_error(kvkeep::sliding_window{.window = 60}, first, 100, [&](position k) { return last - k; }),
              1e-6);
    EXPECT_LT(score_error(kvkeep::streaming_llm{.sinks = 4, .window = 30}, first, 100,
                          [&](position k) { return k < first + 4 ? 33 - (k - first) : last - k; }),
              1e-6);
    EXPECT_LT(score_error(kvkeep::streaming_llm::settled{.sinks = 4, .window = 30}, first, 100,
                          [&](position k) { return k < first + 4 ? 33 - (k - first) : last - k; }),
              1e-6);
    EXPECT_LT(score_error(kvkeep::lm_infinite{.sinks = 4, .window = 30}, first, 100,
                          [&](position k) { return k < first + 4 ? position{30} : last - k; }),
              1e-6);
    EXPECT_LT(score_error(kvkeep::policy{kvkeep::recent{60}, kvkeep::read_all{}, kvkeep::clamped_distance{20},
                                         kvkeep::each_token{}},
                          first, 100, [&](position k) { return std::min<position>(20, last - k); }),
              1e-6);
  }
}

TEST(Position, StoredKeysDependOnThePositionAloneHoweverMuchWasEvicted) {
  // A key is encoded once: after a long stream its stored row is bit for bit the one of a fresh cache at that position.
  const kvkeep::model_shape shape{1, 1, 1, 16};
  const position start = 1'000'000'000;
  auto old = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 0, .window = 20},
                                {.max_step = 64, .first_position = start});
  for (int i = 0; i < 60; ++i) feed(old, shape, 50);
  auto fresh = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 0, .window = 20},
                                  {.max_step = 64, .first_position = old.next_position() - 20});
  feed(fresh, shape, 20);
  EXPECT_EQ(stored(old, 0, 0), stored(fresh, 0, 0));
}

TEST(Position, ShiftInvariance) {
  // The same sinks and the same last tokens give the same output at any stream position.
  const kvkeep::model_shape shape{1, 2, 1, 8};
  const auto run = [&](std::size_t filler) {
    auto cache = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 2, .window = 6});
    std::vector<float> last;
    const auto give = [&](position rows_at, std::uint64_t salt) {
      layer_rows rows = rows_of(shape, 0, rows_at, 1, salt);
      auto step = cache.begin(1);
      step.attend(0, view(std::as_const(rows.q), 1, 2, 8), view(std::as_const(rows.k), 1, 1, 8),
                  view(std::as_const(rows.v), 1, 1, 8), view(rows.out, 1, 2, 8));
      step.commit();
      last = rows.out;
    };
    for (position t = 0; t < 2; ++t) give(t, 0);
    for (std::size_t t = 0; t < filler; ++t) give(static_cast<position>(t), 1);
    for (position t = 0; t < 6; ++t) give(t, 2);
    return last;
  };
  EXPECT_LT(max_difference(run(6), run(777)), 1e-6);
}

}  // namespace
}  // namespace kvkeep_test
