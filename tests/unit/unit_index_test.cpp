// unit_index: lookups are those of a plain scan of all scores, whatever the vectors; with candidates, of those.
#include "kvkeep/memory/unit_index.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace kvkeep_test {
namespace {

using kvkeep::detail::unit_index;
using unit_list = std::vector<std::uint32_t>;

/// An index, what was put into it, and which units are live.
class filled_index {
 public:
  filled_index(const kvkeep::model_shape& shape, std::size_t layers, std::size_t units, std::size_t choosers,
               std::size_t candidates)
      : shape_(shape), choosers_(choosers), live_(units, true) {
    kvkeep::detail::arena measured;
    index_.lay_out(measured, shape, layers, units, 1, choosers, candidates);
    bytes_ = measured.used();
    memory_ = kvkeep::detail::arena(bytes_);
    index_.lay_out(memory_, shape, layers, units, 1, choosers, candidates);
    row_.resize(shape.head_dim);
  }

  /// Represents a unit by a vector, [query_heads][head_dim].
  void put(std::size_t layer, std::size_t unit, std::span<const float> vector) {
    const float one = 1.0F;
    for (std::size_t head = 0; head < shape_.query_heads; ++head) {
      index_.represent(
          layer, unit, head, {&one, 1}, [](std::size_t) { return true; },
          [&](std::size_t, std::span<float> row) {
            std::copy_n(vector.begin() + static_cast<std::ptrdiff_t>(head * shape_.head_dim), row.size(), row.begin());
          },
          row_);
    }
  }
  void kill(std::size_t unit) { live_[unit] = false; }

  [[nodiscard]] unit_list look_up(std::size_t layer, std::size_t chooser, std::span<const float> queries,
                                  std::size_t available, std::size_t count) {
    const auto found = index_.look_up(layer, chooser, queries.data(), available, count,
                                      [&](std::size_t u) { return static_cast<bool>(live_[u]); });
    return {found.begin(), found.end()};
  }
  /// The same by the scores of all units, in the words of the rule: the highest first, ties: the older, NaN last.
  [[nodiscard]] unit_list plain(std::size_t layer, std::size_t chooser, std::span<const float> queries,
                                std::size_t available, std::size_t count) const {
    const std::size_t length = shape_.query_heads * shape_.head_dim / choosers_;
    std::vector<float> scores(available);
    for (std::size_t u = 0; u < available; ++u) {
      scores[u] = -std::numeric_limits<float>::infinity();
      if (live_[u]) {
        const float* const all = index_.vector(layer, u, 0).data();
        const float* const row = all + chooser * length;
        scores[u] =
            kvkeep::detail::dot_rows(queries.data() + chooser * length, std::array{row, row, row, row}, length)[0];
      }
    }
    unit_list order(available);
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      const bool nan_a = kvkeep::detail::is_nan(scores[a]);
      const bool nan_b = kvkeep::detail::is_nan(scores[b]);
      return nan_a || nan_b ? !nan_a && nan_b : scores[a] > scores[b];
    });
    order.resize(std::min(count, available));
    return order;
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  kvkeep::model_shape shape_;
  std::size_t choosers_;
  std::size_t bytes_ = 0;
  unit_index index_;
  kvkeep::detail::arena memory_;
  std::vector<float> row_;
  std::vector<bool> live_;
};

/// What vectors look like.
struct data_kind {
  const char* name;
  float (*component)(std::mt19937& random, std::size_t unit, std::size_t c);
};

float normal(std::mt19937& random) { return std::normal_distribution<float>{}(random); }
float chance(std::mt19937& random) { return std::uniform_real_distribution<float>{}(random); }

const data_kind kinds[] = {
    {"random", [](std::mt19937& r, std::size_t, std::size_t) { return normal(r); }},
    {"around a point",
     [](std::mt19937& r, std::size_t, std::size_t c) { return static_cast<float>(c % 7) * 3.0F + 0.1F * normal(r); }},
    {"clusters of neighbours",
     [](std::mt19937& r, std::size_t unit, std::size_t c) {
       return std::sin(static_cast<float>(unit / 16 * 31 + c)) + 0.02F * normal(r);
     }},
    {"many the same",
     [](std::mt19937&, std::size_t unit, std::size_t c) { return std::sin(static_cast<float>(unit % 5 * 17 + c)); }},
    {"all the same", [](std::mt19937&, std::size_t, std::size_t c) { return static_cast<float>(c) - 3.0F; }},
    {"zero", [](std::mt19937&, std::size_t, std::size_t) { return 0.0F; }},
    {"zero at first", [](std::mt19937& r, std::size_t unit, std::size_t) { return unit < 300 ? 0.0F : normal(r); }},
    {"one component outweighs", [](std::mt19937& r, std::size_t unit,
                                   std::size_t c) { return c == 1 && unit > 290 ? 1e4F * normal(r) : normal(r); }},
    {"huge", [](std::mt19937& r, std::size_t, std::size_t) { return 1e25F * normal(r); }},
    {"overflowing", [](std::mt19937& r, std::size_t, std::size_t) { return 1e38F * normal(r); }},
    {"tiny", [](std::mt19937& r, std::size_t, std::size_t) { return 1e-30F * normal(r); }},
    {"denormal", [](std::mt19937& r, std::size_t, std::size_t) { return 1e-40F * normal(r); }},
    {"of all sizes",
     [](std::mt19937& r, std::size_t, std::size_t) { return normal(r) * std::pow(10.0F, 70.0F * chance(r) - 35.0F); }},
    {"some not finite",
     [](std::mt19937& r, std::size_t, std::size_t) {
       const float at = chance(r);
       return at < 0.002F   ? std::numeric_limits<float>::infinity()
              : at < 0.004F ? -std::numeric_limits<float>::infinity()
              : at < 0.006F ? std::numeric_limits<float>::quiet_NaN()
                            : normal(r);
     }},
};

std::vector<float> row_of(std::mt19937& random, const data_kind& kind, std::size_t unit, std::size_t length) {
  std::vector<float> out(length);
  for (std::size_t c = 0; c < length; ++c) out[c] = kind.component(random, unit, c);
  return out;
}

TEST(UnitIndex, LooksUpWhatAPlainScanDoes) {
  constexpr std::size_t units = 700;
  for (const kvkeep::model_shape shape : {kvkeep::model_shape{2, 4, 2, 16}, {2, 6, 3, 33}, {2, 2, 1, 3}}) {
    const std::size_t length = shape.query_heads * shape.head_dim;
    for (const std::size_t choosers : {std::size_t{1}, shape.kv_heads, shape.query_heads}) {
      for (const data_kind& kind : kinds) {
        std::mt19937 random(7);
        filled_index index(shape, 2, units, choosers, 0);
        for (std::size_t u = 0; u < units; ++u) {
          for (std::size_t layer = 0; layer < 2; ++layer) index.put(layer, u, row_of(random, kind, u, length));
        }
        for (std::size_t u = 0; u < units; u += 9) index.kill(u);
        for (const std::size_t available : {units, std::size_t{257}, std::size_t{256}, std::size_t{500}}) {
          for (int query = 0; query < 4; ++query) {
            const std::vector<float> q = row_of(random, query == 3 ? kind : kinds[0], units, length);
            for (std::size_t chooser = 0; chooser < choosers; ++chooser) {
              const std::size_t layer = static_cast<std::size_t>(query) % 2;
              EXPECT_EQ(index.look_up(layer, chooser, q, available, 16), index.plain(layer, chooser, q, available, 16))
                  << kind.name << ", " << choosers << " choosers, " << available << " units, dim " << shape.head_dim;
            }
          }
        }
      }
    }
  }
}

TEST(UnitIndex, LooksUpWhatAPlainScanDoesWhereFewAreLeft) {
  const kvkeep::model_shape shape{1, 2, 1, 16};
  constexpr std::size_t units = 400;
  std::mt19937 random(3);
  for (const std::size_t candidates : {0U, 40U}) {
    filled_index index(shape, 1, units, 1, candidates);
    for (std::size_t u = 0; u < units; ++u) index.put(0, u, row_of(random, kinds[0], u, 32));
    for (std::size_t u = 0; u < units; ++u) {
      if (u % 50 != 7) index.kill(u);
    }
    const std::vector<float> q = row_of(random, kinds[0], 0, 32);
    for (const std::size_t count : {1U, 7U, 8U, 9U, 30U}) {
      EXPECT_EQ(index.look_up(0, 0, q, units, count), index.plain(0, 0, q, units, count)) << count << " wanted";
    }
  }
}

TEST(UnitIndex, KnowsOnlyWhatAUnitWasLastRepresentedBy) {
  constexpr std::size_t units = 600;
  for (const auto& [shape, candidates] : {std::pair{kvkeep::model_shape{1, 4, 2, 16}, std::size_t{0}},
                                          {kvkeep::model_shape{1, 4, 2, 16}, 64},
                                          {kvkeep::model_shape{1, 32, 2, 16}, 30}}) {
    const std::size_t length = shape.query_heads * shape.head_dim;
    std::mt19937 random(5);
    filled_index index(shape, 1, units, 1, candidates);
    filled_index fresh(shape, 1, units, 1, candidates);
    std::vector<std::vector<float>> rows;
    for (std::size_t u = 0; u < units; ++u) rows.push_back(row_of(random, kinds[1], u, length));
    // A stream that goes back: once before the units that are learned from are there, over their last, and behind.
    for (std::size_t u = 0; u < 260; ++u) index.put(0, u, row_of(random, kinds[3], u, length));
    for (std::size_t u = 200; u < 500; ++u) index.put(0, u, row_of(random, kinds[8], u, length));
    for (std::size_t u = 0; u < 400; ++u) index.put(0, u, rows[u]);
    for (std::size_t u = 390; u < units; ++u) index.put(0, u, row_of(random, kinds[0], u, length));
    for (std::size_t u = 390; u < units; ++u) index.put(0, u, rows[u]);
    for (std::size_t u = 0; u < units; ++u) fresh.put(0, u, rows[u]);
    for (int query = 0; query < 20; ++query) {
      const std::vector<float> q = row_of(random, kinds[0], 0, length);
      const unit_list found = index.look_up(0, 0, q, units, 16);
      EXPECT_EQ(found, fresh.look_up(0, 0, q, units, 16));
      if (candidates == 0) EXPECT_EQ(found, index.plain(0, 0, q, units, 16));
    }
  }
}

TEST(UnitIndex, FindsMostOfTheBestAmongCandidates) {
  // Heads whose vectors lie near a space of six dimensions, as keys do, and far from 0.
  for (const kvkeep::model_shape shape : {kvkeep::model_shape{1, 8, 2, 64}, {1, 6, 3, 40}}) {
    const std::size_t length = shape.query_heads * shape.head_dim;
    for (const std::size_t choosers : {std::size_t{1}, shape.kv_heads, shape.query_heads}) {
      constexpr std::size_t units = 3000;
      std::mt19937 random(11);
      filled_index index(shape, 1, units, choosers, 96);
      for (std::size_t u = 0; u < units; ++u) {
        std::vector<float> row(length);
        for (std::size_t head = 0; head < shape.query_heads; ++head) {
          float weights[6];
          for (float& w : weights) w = normal(random);
          for (std::size_t c = 0; c < shape.head_dim; ++c) {
            float& x = row[head * shape.head_dim + c];
            x = 5.0F + 0.1F * normal(random);
            for (std::size_t d = 0; d < 6; ++d) {
              x += weights[d] * std::sin(static_cast<float>((head / shape.group() * 6 + d) * 97 + c * (d + 1)));
            }
          }
        }
        index.put(0, u, row);
      }
      std::size_t hits = 0;
      std::size_t wanted = 0;
      for (int query = 0; query < 20; ++query) {
        const std::vector<float> q = row_of(random, kinds[0], 0, length);
        for (std::size_t chooser = 0; chooser < choosers; ++chooser) {
          const unit_list exact = index.plain(0, chooser, q, units, 16);
          const unit_list found = index.look_up(0, chooser, q, units, 16);
          ASSERT_EQ(found.size(), 16U);
          for (const std::uint32_t u : exact) hits += std::count(found.begin(), found.end(), u) > 0 ? 1U : 0U;
          wanted += exact.size();
          // What is found stands in the order of the scores.
          const unit_list all = index.plain(0, chooser, q, units, units);
          std::vector<std::ptrdiff_t> ranks;
          for (const std::uint32_t u : found) ranks.push_back(std::find(all.begin(), all.end(), u) - all.begin());
          EXPECT_TRUE(std::is_sorted(ranks.begin(), ranks.end()));
        }
      }
      EXPECT_GE(static_cast<double>(hits), 0.98 * static_cast<double>(wanted)) << choosers << " choosers";
    }
  }
}

// Groups of four heads have dimensions in common: few in each head, many in all.
TEST(UnitIndex, FindsMostOfTheBestOfManyHeads) {
  const kvkeep::model_shape shape{2, 32, 8, 40};
  const std::size_t length = shape.query_heads * shape.head_dim;
  constexpr std::size_t units = 2500;
  constexpr std::size_t dimensions = 8;
  std::mt19937 random(17);
  std::vector<float> directions(dimensions * length);
  for (float& x : directions) x = normal(random);
  filled_index index(shape, 2, units, 1, 80);
  for (std::size_t u = 0; u < units; ++u) {
    for (std::size_t layer = 0; layer < 2; ++layer) {
      std::vector<float> row(length);
      for (std::size_t c = 0; c < length; ++c) row[c] = 3.0F + 0.05F * normal(random);
      for (std::size_t part = 0; part < length; part += length / 8) {
        for (std::size_t d = 0; d < dimensions; ++d) {
          // Dimensions differ in how much vectors differ along them, and vectors of later units are larger.
          const float weight = normal(random) / static_cast<float>(1 + d / 2) * (u < 1000 ? 1.0F : 1.5F);
          for (std::size_t c = part; c < part + length / 8; ++c) row[c] += weight * directions[d * length + c];
        }
      }
      index.put(layer, u, row);
    }
  }
  for (std::size_t u = 0; u < units; u += 5) index.kill(u);
  for (const std::size_t available : {units, std::size_t{997}}) {
    std::size_t hits = 0;
    std::size_t wanted = 0;
    for (std::size_t query = 0; query < 20; ++query) {
      const std::vector<float> q = row_of(random, kinds[0], 0, length);
      const unit_list exact = index.plain(query % 2, 0, q, available, 16);
      const unit_list found = index.look_up(query % 2, 0, q, available, 16);
      for (const std::uint32_t u : exact) hits += std::count(found.begin(), found.end(), u) > 0 ? 1U : 0U;
      wanted += exact.size();
      EXPECT_TRUE(std::none_of(found.begin(), found.end(), [](std::uint32_t u) { return u % 5 == 0; }));
    }
    EXPECT_GE(static_cast<double>(hits), 0.98 * static_cast<double>(wanted)) << available << " units";
  }
}

// The fp32 scores lie between the bounds, all of them less the same: the product of the query with the centre.
TEST(ByteShadow, BoundsHoldEveryScore) {
  constexpr std::size_t units = 300;
  for (const std::size_t length : {std::size_t{3}, std::size_t{200}, std::size_t{4096}}) {
    for (const data_kind& kind : kinds) {
      std::mt19937 random(29);
      kvkeep::detail::byte_shadow shadow;
      kvkeep::detail::arena measured;
      shadow.lay_out(measured, 1, units, 1, length);
      kvkeep::detail::arena memory(measured.used());
      shadow.lay_out(memory, 1, units, 1, length);
      std::vector<float> vectors;
      for (std::size_t u = 0; u < units; ++u) {
        const std::vector<float> row = row_of(random, kind, u, length);
        vectors.insert(vectors.end(), row.begin(), row.end());
      }
      shadow.learn(0, vectors.data(), 256);
      for (std::size_t u = 0; u < units; ++u) shadow.encode(0, u, vectors.data() + u * length);
      const std::vector<float> query = row_of(random, kinds[0], 0, length);
      ASSERT_TRUE(shadow.ask(0, 0, query.data()));
      std::vector<float> lower(units);
      std::vector<float> upper(units);
      const std::size_t adds = length / (4 * kvkeep::detail::vec_width) + kvkeep::detail::vec_width + 12;
      shadow.bound(0, 0, units, adds, lower.data(), upper.data());
      // What is common is at least every score less its upper bound, and at most every one less its lower bound.
      double least = -std::numeric_limits<double>::infinity();
      double most = std::numeric_limits<double>::infinity();
      std::size_t bounded = 0;
      for (std::size_t u = 0; u < units; ++u) {
        const auto score =
            static_cast<double>(kvkeep::detail::dot_rows(query.data(), vectors.data() + u * length, length));
        if (lower[u] == std::numeric_limits<float>::lowest()) continue;
        ASSERT_TRUE(std::isfinite(score)) << kind.name;
        ASSERT_LE(lower[u], upper[u]);
        least = std::max(least, score - static_cast<double>(upper[u]));
        most = std::min(most, score - static_cast<double>(lower[u]));
        ++bounded;
      }
      EXPECT_LE(least, most) << kind.name << ", length " << length;
      if (kind.name == std::string("random")) {
        EXPECT_EQ(bounded, units);
        const double width = static_cast<double>(upper[0]) - static_cast<double>(lower[0]);
        EXPECT_LT(width, 0.03 * static_cast<double>(length) + 0.5) << "not much wider than bytes make them";
      }
    }
  }
}

// But for what all have in common and a factor, estimates are the products where vectors lie in few directions.
TEST(RowSketch, EstimatesProducts) {
  constexpr std::size_t layers = 2;
  constexpr std::size_t rows = 2;
  constexpr std::size_t length = 300;
  constexpr std::size_t units = 1001;
  constexpr std::size_t dimensions = 30;
  std::mt19937 random(23);
  kvkeep::detail::row_sketch sketch;
  kvkeep::detail::arena measured;
  sketch.lay_out(measured, layers, units, rows, length);
  kvkeep::detail::arena memory(measured.used());
  sketch.lay_out(memory, layers, units, rows, length);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    std::vector<float> directions(rows * dimensions * length);
    for (float& x : directions) x = normal(random);
    std::vector<float> vectors(units * rows * length);
    for (std::size_t i = 0; i < units * rows; ++i) {
      float* const vector = vectors.data() + i * length;
      for (std::size_t c = 0; c < length; ++c) vector[c] = 5.0F + 0.01F * normal(random);
      for (std::size_t d = 0; d < dimensions; ++d) {
        const float weight = normal(random) / static_cast<float>(1 + d) * (i < 600 ? 1.0F : 3.0F);
        for (std::size_t c = 0; c < length; ++c)
          vector[c] += weight * directions[(i % rows * dimensions + d) * length + c];
      }
    }
    sketch.learn(layer, vectors.data());
    for (std::size_t u = 0; u < units; ++u) sketch.encode(layer, u, vectors.data() + u * rows * length);
    for (std::size_t row = 0; row < rows; ++row) {
      const std::vector<float> query = row_of(random, kinds[0], 0, length);
      ASSERT_TRUE(sketch.ask(layer, row, query.data()));
      std::vector<float> estimates(units);
      sketch.estimate(layer, row, units, estimates.data());
      double e = 0.0, p = 0.0, ee = 0.0, pp = 0.0, ep = 0.0;
      for (std::size_t u = 0; u < units; ++u) {
        const double x = static_cast<double>(estimates[u]);
        const double y = static_cast<double>(
            kvkeep::detail::dot_rows(query.data(), vectors.data() + (u * rows + row) * length, length));
        e += x / units, p += y / units, ee += x * x / units, pp += y * y / units, ep += x * y / units;
      }
      EXPECT_GT((ep - e * p) / std::sqrt((ee - e * e) * (pp - p * p)), 0.999) << "layer " << layer << ", row " << row;
    }
    std::vector<float> query(length, 1.0F);
    query[17] = std::numeric_limits<float>::infinity();
    EXPECT_FALSE(sketch.ask(layer, 0, query.data()));
  }
}

TEST(UnitIndex, SurvivesAnyVectorsWithCandidates) {
  for (const kvkeep::model_shape shape : {kvkeep::model_shape{1, 4, 2, 16}, {1, 64, 2, 16}}) {
    const std::size_t length = shape.query_heads * shape.head_dim;
    for (const data_kind& kind : kinds) {
      std::mt19937 random(13);
      filled_index index(shape, 1, 500, 2, 30);
      for (std::size_t u = 0; u < 500; ++u) index.put(0, u, row_of(random, kind, u, length));
      for (int query = 0; query < 4; ++query) {
        const std::vector<float> q = row_of(random, query % 2 == 0 ? kind : kinds[0], 0, length);
        unit_list found = index.look_up(0, 1, q, 500, 16);
        std::sort(found.begin(), found.end());
        EXPECT_EQ(found.size(), 16U) << kind.name;
        EXPECT_EQ(std::adjacent_find(found.begin(), found.end()), found.end()) << kind.name;
        EXPECT_LT(found.back(), 500U) << kind.name;
      }
    }
  }
}

TEST(UnitIndex, TakesNoMemoryForShortCutsThatCannotAct) {
  const kvkeep::model_shape shape{1, 4, 2, 16};
  const auto bytes = [&](std::size_t units, std::size_t candidates) {
    return filled_index(shape, 1, units, 1, candidates).bytes();
  };
  EXPECT_LT(bytes(256, 0), 256 * (64 * 4 + 64));
  EXPECT_GT(bytes(257, 0), 257 * (64 * 4 + 64));
  EXPECT_GT(bytes(1000, 40), bytes(1000, 0));
  // The coarse scan of long vectors: where it would leave no fewer than there are, there is none.
  const kvkeep::model_shape many{1, 64, 8, 16};
  const std::size_t all = filled_index(many, 1, 400, 1, 100).bytes();
  const std::size_t some = filled_index(many, 1, 400, 1, 99).bytes();
  EXPECT_GT(some, all + 400 * 128);
}

}  // namespace
}  // namespace kvkeep_test
