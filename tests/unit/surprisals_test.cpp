// surprisals, entropies and their streams, against sums in long double.
#include "kvkeep/policy/evidence/surprisals.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

constexpr float infinite = std::numeric_limits<float>::infinity();

struct exact {
  long double log_sum = 0;
  long double entropy = 0;
};
exact exact_of(std::span<const float> logits) {
  const long double top = *std::max_element(logits.begin(), logits.end());
  long double sum = 0;
  long double moment = 0;
  for (const float x : logits) {
    const long double w = std::exp(static_cast<long double>(x) - top);
    sum += w;
    if (w > 0) moment += w * (static_cast<long double>(x) - top);
  }
  return {top + std::log(sum), std::log(sum) - moment / sum};
}

std::vector<float> random_logits(std::size_t count, float spread, std::uint64_t seed) {
  dice random(seed);
  std::vector<float> out(count);
  for (float& x : out) x = spread * random.normal();
  return out;
}

TEST(Surprisals, AreThoseOfExactSums) {
  for (const std::size_t vocabulary : {1U, 2U, 3U, 15U, 16U, 17U, 1000U, 32003U, 262144U}) {
    for (const float spread : {0.0F, 1.0F, 5.0F, 300.0F}) {
      const std::vector<float> logits = random_logits(vocabulary, spread, vocabulary);
      const exact truth = exact_of(logits);
      for (const std::size_t id : {std::size_t{0}, vocabulary / 2, vocabulary - 1}) {
        const std::vector<std::int32_t> ids{static_cast<std::int32_t>(id)};
        const kvkeep::logits_view view{logits.data(), 1, vocabulary};
        const auto expected = static_cast<double>(truth.log_sum - static_cast<long double>(logits[id]));
        EXPECT_NEAR(static_cast<double>(kvkeep::surprisals(view, ids)[0]), expected, 2e-6 * std::max(1.0, expected))
            << vocabulary << ", " << spread;
        EXPECT_NEAR(static_cast<double>(kvkeep::surprisals(view, ids, kvkeep::token_measure::entropy)[0]),
                    static_cast<double>(truth.entropy), 2e-5)
            << vocabulary << ", " << spread;
      }
    }
  }
}

TEST(Surprisals, OfLikelyTokensKeepTheirDigits) {
  // Almost all probability is the first token's, or two share it: what is left decides the value.
  for (const std::size_t vocabulary : {5U, 16U, 33U, 1000U, 50000U}) {
    for (const float top : {3.0F, 12.0F, 20.0F, 30.0F, 80.0F}) {
      for (const std::size_t at : {std::size_t{0}, vocabulary / 2, vocabulary - 1}) {
        std::vector<float> logits(vocabulary, 0.0F);
        logits[at] = top;
        const kvkeep::logits_view view{logits.data(), 1, vocabulary};
        const std::vector<std::int32_t> id{static_cast<std::int32_t>(at)};
        const double expected = std::log1p(static_cast<double>(vocabulary - 1) * std::exp(-static_cast<double>(top)));
        EXPECT_NEAR(static_cast<double>(kvkeep::surprisals(view, id)[0]), expected, 1e-6 * expected)
            << vocabulary << ", " << top;
        logits[(at + 1) % vocabulary] = top;
        const double shared =
            std::log(2.0) + std::log1p(static_cast<double>(vocabulary - 2) / 2.0 * std::exp(-static_cast<double>(top)));
        EXPECT_NEAR(static_cast<double>(kvkeep::surprisals(view, id)[0]), shared, 1e-6 * shared)
            << vocabulary << ", " << top;
      }
    }
  }
}

TEST(Surprisals, TakeImpossibleTokensAsSuch) {
  for (const std::size_t vocabulary : {2U, 7U, 16U, 17U, 40U}) {
    std::vector<float> logits = random_logits(vocabulary, 2.0F, vocabulary);
    for (std::size_t i = 1; i < vocabulary; i += 2) logits[i] = -infinite;
    const exact truth = exact_of(logits);
    const kvkeep::logits_view view{logits.data(), 1, vocabulary};
    const std::vector<std::int32_t> possible{0};
    EXPECT_NEAR(static_cast<double>(kvkeep::surprisals(view, possible)[0]),
                static_cast<double>(truth.log_sum - static_cast<long double>(logits[0])), 2e-6);
    EXPECT_NEAR(static_cast<double>(kvkeep::surprisals(view, possible, kvkeep::token_measure::entropy)[0]),
                static_cast<double>(truth.entropy), 2e-6)
        << vocabulary;
    const std::vector<std::int32_t> impossible{1};
    EXPECT_EQ(kvkeep::surprisals(view, impossible)[0], infinite);
  }
}

TEST(Surprisals, FindNaNWhereverItIs) {
  for (const std::size_t vocabulary : {1U, 3U, 16U, 17U, 35U}) {
    for (std::size_t at = 0; at < vocabulary; ++at) {
      std::vector<float> logits(vocabulary, 1.0F);
      logits[at] = NAN;
      std::vector<float> out(1);
      const auto outcome = kvkeep::try_surprisals({logits.data(), 1, vocabulary}, std::vector<std::int32_t>{0}, out);
      ASSERT_FALSE(outcome) << at << " of " << vocabulary;
      EXPECT_EQ(outcome.error().argument(), "logits[0]");
    }
  }
}

TEST(Surprisals, NeitherOverflowNorUnderflow) {
  std::vector<float> logits(50000, -3.0e38F);
  logits[7] = 3.0e38F;
  logits[9] = -infinite;
  const auto of = [&](std::int32_t id) {
    return kvkeep::surprisals({logits.data(), 1, logits.size()}, std::vector<std::int32_t>{id})[0];
  };
  EXPECT_EQ(of(7), 0.0F);
  EXPECT_EQ(of(8), std::numeric_limits<float>::max()) << "6e38 is no float, and the logit is finite";
  EXPECT_EQ(of(9), infinite) << "impossible tokens surprise without limit";
  std::fill(logits.begin(), logits.end(), 0.0F);
  logits[3] = 2000.0F;  // e^-2000 is no number of any kind
  EXPECT_FLOAT_EQ(of(4), 2000.0F);
  EXPECT_EQ(of(3), 0.0F);
}

TEST(Surprisals, ComeTheSameInAnyChunks) {
  const std::size_t vocabulary = 37;
  const std::size_t tokens = 60;
  const std::vector<float> logits = random_logits(tokens * vocabulary, 3.0F, 5);
  dice random(6);
  std::vector<std::int32_t> ids(tokens);
  for (auto& id : ids) id = static_cast<std::int32_t>(random.between(0, vocabulary - 1));
  const auto run = [&](auto next_size, kvkeep::token_measure measure) {
    kvkeep::surprisal_stream stream(vocabulary, measure);
    std::vector<float> out(tokens);
    for (std::size_t t = 0; t < tokens;) {
      const std::size_t n = std::min<std::size_t>(next_size(), tokens - t);
      stream.push({logits.data() + t * vocabulary, n, vocabulary}, std::span(ids).subspan(t, n),
                  std::span(out).subspan(t, n));
      t += n;
    }
    return out;
  };
  for (const auto measure : {kvkeep::token_measure::surprisal, kvkeep::token_measure::entropy}) {
    const std::vector<float> whole = run([] { return 60; }, measure);
    EXPECT_EQ(whole[0], infinite) << "nobody predicted the first";
    // Token t is judged by row t - 1.
    const kvkeep::logits_view before{logits.data(), tokens - 1, vocabulary};
    const std::vector<float> direct = kvkeep::surprisals(before, std::span(ids).subspan(1), measure);
    EXPECT_EQ(std::vector<float>(whole.begin() + 1, whole.end()), direct);
    EXPECT_EQ(run([] { return 1; }, measure), whole);
    for (int repeat = 0; repeat < 10; ++repeat) {
      EXPECT_EQ(run([&] { return random.between(0, 9); }, measure), whole);
    }
  }
  kvkeep::surprisal_stream given(vocabulary, kvkeep::token_measure::surprisal, 2.5F);
  float value = 0.0F;
  for (int repeat = 0; repeat < 2; ++repeat) {
    given.push({logits.data(), 1, vocabulary}, std::span(ids).first(1), {&value, 1});
    EXPECT_EQ(value, 2.5F);
    given.push({logits.data(), 1, vocabulary}, std::span(ids).first(1), {&value, 1});
    EXPECT_NE(value, 2.5F);
    given.clear();
  }
}

TEST(Surprisals, OfThePaperAndOfTheAuthorsCode) {
  // Three tokens a, b, c and the rows p0, p1, p2 that the model gave at them.
  const std::vector<float> rows{0.1F, 1.7F, -0.4F, 2.0F, 0.3F, 0.9F, -1.0F, 0.0F, 0.5F};
  const std::vector<std::int32_t> ids{2, 0, 1};
  const auto p = [&](std::size_t row, std::int32_t id) {
    return static_cast<float>(exact_of(std::span(rows).subspan(row * 3, 3)).log_sum -
                              static_cast<long double>(rows[row * 3 + static_cast<std::size_t>(id)]));
  };
  kvkeep::surprisal_stream stream(3);
  std::vector<float> paper(3);
  stream.push({rows.data(), 3, 3}, ids, paper);
  EXPECT_EQ(paper[0], infinite);
  EXPECT_FLOAT_EQ(paper[1], p(0, 0));
  EXPECT_FLOAT_EQ(paper[2], p(1, 1));
  const std::vector<float> authors = kvkeep::published_surprisals({rows.data(), 3, 3}, ids);
  EXPECT_FLOAT_EQ(authors[0], std::max({p(0, 2), p(1, 0), p(2, 1)}));
  EXPECT_FLOAT_EQ(authors[1], p(0, 2));
  EXPECT_FLOAT_EQ(authors[2], p(1, 0));
}

TEST(Surprisals, NameEveryMistake) {
  std::vector<float> logits(12, 1.0F);
  std::vector<float> out(3);
  const std::vector<std::int32_t> ids{0, 3, 1};
  const auto fault = [&](const kvkeep::logits_view& view, std::span<const std::int32_t> of, std::span<float> to) {
    const auto outcome = kvkeep::try_surprisals(view, of, to);
    return outcome ? std::string("none") : outcome.error().argument();
  };
  EXPECT_EQ(fault({logits.data(), 3, 4}, ids, out), "none");
  EXPECT_EQ(fault({logits.data(), 3, 0}, ids, out), "logits.vocabulary");
  EXPECT_EQ(fault({logits.data(), 2, 4}, ids, out), "token_ids");
  EXPECT_EQ(fault({logits.data(), 3, 4}, ids, std::span(out).first(2)), "out");
  EXPECT_EQ(fault({logits.data(), 3, 3}, ids, out), "token_ids[1]") << "3 is no id of 0 .. 2";
  EXPECT_EQ(fault({logits.data(), 3, 4}, std::vector<std::int32_t>{0, 1, -1}, out), "token_ids[2]");
  logits[5] = NAN;
  EXPECT_EQ(fault({logits.data(), 3, 4}, ids, out), "logits[1]");
  logits[5] = infinite;
  EXPECT_EQ(fault({logits.data(), 3, 4}, ids, out), "logits[1]");
  std::fill(logits.begin() + 8, logits.end(), -infinite);
  logits[5] = 0.0F;
  EXPECT_EQ(fault({logits.data(), 3, 4}, ids, out), "logits[2]");

  EXPECT_EQ(kvkeep::surprisal_stream::try_make(0).error().argument(), "vocabulary");
  for (const float first : {NAN, -0.5F, -infinite}) {
    EXPECT_EQ(kvkeep::surprisal_stream::try_make(3, kvkeep::token_measure::surprisal, first).error().argument(),
              "first");
  }
  kvkeep::surprisal_stream stream(4);
  EXPECT_EQ(stream.try_push({logits.data(), 3, 3}, ids, out).error().argument(), "logits.vocabulary");
  EXPECT_EQ(stream.try_push({logits.data(), 3, 4}, ids, out).error().argument(), "logits[2]");
  stream.push({logits.data(), 2, 4}, std::span(ids).first(2), std::span(out).first(2));
  EXPECT_EQ(out[0], infinite) << "what was refused did not begin the stream";
}

}  // namespace
}  // namespace kvkeep_test
