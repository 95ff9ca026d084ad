// The streaming kernel against the reference: any split into partial states, softcap, ALiBi, sink logits, masks.
#include "kvkeep/attention/attend.hpp"

#include <gtest/gtest.h>

#include "../support/rows.hpp"
#include "kvkeep/attention/reference.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/storage/kv_store.hpp"

namespace kvkeep_test {
namespace {

using store_type = kvkeep::kv_store<kvkeep::f32, kvkeep::f32>;

/// A store of one lane with `keys` tokens in slots 0, 1, ..., and one query for it.
struct fixture {
  kvkeep::model_shape shape;
  std::size_t keys;
  layer_rows rows;   // keys and values
  layer_rows query;  // one query
  kvkeep::detail::arena memory;
  store_type store;

  fixture(kvkeep::model_shape s, std::size_t n, std::uint64_t seed)
      : shape(s), keys(n), rows(rows_of(s, 0, 0, n, seed)), query(rows_of(s, 1, 0, 1, seed)), memory(1U << 22U) {
    store.lay_out(memory, 1, (n + 15) / 16, s.head_dim);
    // Unused slots hold NaN: whatever is not read must not matter.
    const std::vector<float> nan(s.head_dim, NAN);
    for (std::size_t i = 0; i < (n + 15) / 16 * 16; ++i) store.write(0, kvkeep::to_slot(i), nan, nan);
    for (std::size_t i = 0; i < n; ++i) {
      store.write(0, kvkeep::to_slot(i), {rows.k.data() + i * s.head_dim, s.head_dim},
                  {rows.v.data() + i * s.head_dim, s.head_dim});
    }
  }
};

struct outcome {
  std::vector<float> values;  // [group][head_dim]
  std::vector<kvkeep::softmax_state> states;
  outcome(std::size_t group, std::size_t dim) : values(group * dim, 0.0F), states(group) {
    for (std::size_t g = 0; g < group; ++g) states[g].accumulated = std::span<float>(values).subspan(g * dim, dim);
  }
};

/// Working memory of the kernel.
struct room {
  kvkeep::detail::arena memory;
  kvkeep::attend_scratch scratch;
  room(std::size_t queries, std::size_t group, std::size_t dim) {
    kvkeep::detail::arena ruler;
    scratch.lay_out<kvkeep::f32, kvkeep::f32>(ruler, queries, group, dim);
    memory = kvkeep::detail::arena(ruler.used());
    scratch.lay_out<kvkeep::f32, kvkeep::f32>(memory, queries, group, dim);
  }
};

/// Attends over the keys i with reads(i); distances are the ages of the keys.
template <class Reads>
void attend_some(const fixture& f, float scale, kvkeep::score_options options, const Reads& reads, outcome& out) {
  const std::size_t dim = f.shape.head_dim;
  const std::size_t group = f.shape.query_heads;
  std::vector<kvkeep::key_span> spans;
  std::vector<kvkeep::position> away((f.keys + 15) / 16 * 16, 0);
  for (std::size_t i = 0; i < f.keys; ++i) {
    away[i] = static_cast<kvkeep::position>(f.keys - i);
    if (!reads(i)) continue;
    if (spans.empty() || spans.back().block != i / 16) spans.push_back({0, static_cast<std::uint32_t>(i / 16), 0});
    spans.back().mask |= 1U << (i % 16);
  }
  std::vector<float> turned(group * dim);
  for (std::size_t c = 0; c < group * dim; ++c) turned[c] = f.query.q[c] * scale;
  const room scratch(1, group, dim);
  const kvkeep::query_run run{spans, turned.data(), out.states, away};
  kvkeep::attend(f.store.view(0), {&run, 1}, options, scratch.scratch);
}

std::vector<double> expected(const fixture& f, const kvkeep::reference_options& options, std::size_t until,
                             kvkeep::reference_attention_result* all = nullptr) {
  const std::size_t dim = f.shape.head_dim;
  auto r = kvkeep::reference_attention(view(f.query.q, 1, f.shape.query_heads, dim), view(f.rows.k, f.keys, 1, dim),
                                       view(f.rows.v, f.keys, 1, dim), options,
                                       [&](std::size_t, std::size_t j) -> std::optional<kvkeep::position> {
                                         if (j >= until) return std::nullopt;
                                         return static_cast<kvkeep::position>(f.keys - j);
                                       });
  if (all != nullptr) *all = r;
  return r.output;
}

std::vector<float> finished(const outcome& o, std::size_t dim) {
  std::vector<float> out(o.values.size());
  for (std::size_t g = 0; g < o.states.size(); ++g) o.states[g].finish(std::span<float>(out).subspan(g * dim, dim));
  return out;
}

TEST(Attend, EqualsTheReferenceForAllShapes) {
  std::uint64_t seed = 1;
  for (const std::size_t dim : std::initializer_list<std::size_t>{1, 2, 7, 8, 32, 40, 64, 80, 96, 112, 128, 192, 256}) {
    for (const std::size_t group : std::initializer_list<std::size_t>{1, 2, 3, 4, 16}) {
      for (const std::size_t keys : std::initializer_list<std::size_t>{1, 15, 16, 17, 50}) {
        const fixture f({1, group, 1, dim}, keys, ++seed);
        outcome out(group, dim);
        const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
        attend_some(
            f, static_cast<float>(scale), {}, [](std::size_t) { return true; }, out);
        EXPECT_LT(max_difference(finished(out, dim), expected(f, {.scale = scale}, keys)), 2e-6)
            << dim << " " << group << " " << keys;
      }
    }
  }
}

TEST(Attend, AnySplitIntoPartialStatesMergesToTheSame) {
  dice random(5);
  for (int repeat = 0; repeat < 50; ++repeat) {
    const std::size_t keys = random.between(1, 120);
    const std::size_t parts = random.between(1, 9);
    const fixture f({1, 3, 1, 16}, keys, random.next());
    std::vector<std::size_t> part_of(keys);
    for (auto& p : part_of) p = random.between(0, parts - 1);
    outcome all(3, 16);
    for (std::size_t p = 0; p < parts; ++p) {
      outcome part(3, 16);
      attend_some(
          f, 0.25F, {}, [&](std::size_t i) { return part_of[i] == p; }, part);
      for (std::size_t g = 0; g < 3; ++g) kvkeep::merge(all.states[g], part.states[g]);
    }
    kvkeep::reference_attention_result truth;
    EXPECT_LT(max_difference(finished(all, 16), expected(f, {.scale = 0.25}, keys, &truth)), 2e-6);
    for (std::size_t g = 0; g < 3; ++g) {
      EXPECT_NEAR(static_cast<double>(all.states[g].log_sum_exp()), truth.log_sum_exp[g], 2e-6);
    }
  }
}

TEST(Attend, SoftcapAlibiAndSinkLogit) {
  const fixture f({1, 2, 1, 16}, 40, 9);
  const std::vector<float> slopes{0.25F, 0.0625F};
  outcome capped(2, 16);
  attend_some(
      f, 0.7F, {.softcap = 2.5F}, [](std::size_t) { return true; }, capped);
  EXPECT_LT(max_difference(finished(capped, 16), expected(f, {.scale = 0.7, .softcap = 2.5}, 40)), 2e-6);

  outcome sloped(2, 16);
  attend_some(
      f, 0.25F, {.slopes = slopes}, [](std::size_t) { return true; }, sloped);
  EXPECT_LT(max_difference(finished(sloped, 16), expected(f, {.positions = kvkeep::alibi{slopes}, .scale = 0.25}, 40)),
            2e-6);

  outcome sunk(2, 16);
  for (std::size_t g = 0; g < 2; ++g) {
    sunk.states[g].max = g == 0 ? 1.5F : 30.0F;
    sunk.states[g].sum = 1.0F;
  }
  attend_some(
      f, 0.25F, {}, [](std::size_t) { return true; }, sunk);
  EXPECT_LT(max_difference(finished(sunk, 16), expected(f, {.scale = 0.25, .sink_logits = {1.5, 30.0}}, 40)), 2e-6);
}

TEST(Attend, SlotsThatAreNotReadContributeNothing) {
  fixture f({1, 2, 1, 8}, 20, 3);
  const std::vector<float> nan(8, NAN);
  const std::vector<float> infinite(8, INFINITY);
  f.store.write(0, kvkeep::to_slot(4), nan, nan);
  f.store.write(0, kvkeep::to_slot(18), infinite, infinite);
  outcome out(2, 8);
  attend_some(
      f, 0.3F, {}, [](std::size_t i) { return i < 4; }, out);
  EXPECT_LT(max_difference(finished(out, 8), expected(f, {.scale = 0.3}, 4)), 2e-6);
}

TEST(Reference, ByProductsAreThoseOfTheSoftmax) {
  const fixture f({1, 2, 1, 8}, 12, 4);
  kvkeep::reference_attention_result r;
  expected(f, {.scale = 0.5}, 12, &r);
  for (std::size_t h = 0; h < 2; ++h) {
    double mass = 0;
    double largest = 0;
    for (std::size_t j = 0; j < 12; ++j) {
      double dot = 0;
      for (std::size_t c = 0; c < 8; ++c)
        dot += 0.5 * static_cast<double>(f.query.q[h * 8 + c]) * static_cast<double>(f.rows.k[j * 8 + c]);
      EXPECT_NEAR(r.mass[h * 12 + j], std::exp(dot - r.log_sum_exp[h]), 1e-12);
      EXPECT_EQ(r.mass[h * 12 + j], r.last_row[h * 12 + j]);
      mass += r.mass[h * 12 + j];
      largest = std::max(largest, r.mass[h * 12 + j]);
    }
    EXPECT_NEAR(mass, 1.0, 1e-12);
    EXPECT_LT(largest, 1.0);
  }
}

TEST(Reference, WindowRowsAreTheNewestQueries) {
  const kvkeep::model_shape shape{1, 2, 1, 4};
  const layer_rows rows = rows_of(shape, 0, 0, 6);
  const auto causal = [](std::size_t t, std::size_t j) -> std::optional<kvkeep::position> {
    if (j > t) return std::nullopt;
    return static_cast<kvkeep::position>(t - j);
  };
  const auto run = [&](std::size_t queries, std::size_t window) {
    return kvkeep::reference_attention(view(rows.q, queries, 2, 4), view(rows.k, 6, 1, 4), view(rows.v, 6, 1, 4),
                                       {.window = window}, causal);
  };
  const auto all = run(6, 2);
  ASSERT_EQ(all.window_rows.size(), 2U * 2 * 6);
  for (std::size_t h = 0; h < 2; ++h) {
    for (std::size_t j = 0; j < 6; ++j) {
      EXPECT_EQ(all.window_rows[(h * 2 + 1) * 6 + j], all.last_row[h * 6 + j]);
      EXPECT_EQ(all.window_rows[(h * 2) * 6 + j], run(5, 0).last_row[h * 6 + j]) << "the row of the query before";
    }
  }
}

TEST(Attend, TellsAnObserverTheWeightsOfEveryTile) {
  const std::size_t keys = 300;  // several tiles, whose maxima differ
  const fixture f({1, 2, 1, 128}, keys, 6);
  outcome out(2, 128);
  std::vector<std::vector<double>> weights(2, std::vector<double>(keys));
  std::vector<std::vector<double>> references = weights;
  std::vector<float> turned(256);
  for (std::size_t c = 0; c < 256; ++c) turned[c] = f.query.q[c] * 0.5F;
  std::vector<kvkeep::key_span> spans;
  for (std::uint32_t b = 0; b < 18; ++b) spans.push_back({0, b, 0xFFFF});
  spans.push_back({0, 18, 0xFFF});
  const kvkeep::query_run run{spans, turned.data(), out.states, {}, 7};
  const room scratch(1, 2, 128);
  std::size_t tiles = 0;
  kvkeep::attend(f.store.view(0), {&run, 1}, {}, scratch.scratch,
                 [&](std::size_t query, std::size_t head, std::span<const std::uint32_t> blocks,
                     const std::uint16_t* masks, const float* w, float reference) {
                   EXPECT_EQ(query, 7U);
                   ++tiles;
                   for (std::size_t i = 0; i < blocks.size() * 16; ++i) {
                     if ((std::uint32_t{masks[i / 16]} >> i % 16 & 1U) != 0) {
                       weights[head][blocks[i / 16] * 16 + i % 16] = static_cast<double>(w[i]);
                       references[head][blocks[i / 16] * 16 + i % 16] = static_cast<double>(reference);
                     } else {
                       EXPECT_EQ(w[i], 0.0F);
                     }
                   }
                 });
  EXPECT_GT(tiles, 2U * 2);
  kvkeep::reference_attention_result truth;
  expected(f, {.scale = 0.5}, keys, &truth);
  for (std::size_t g = 0; g < 2; ++g) {
    const auto max = static_cast<double>(out.states[g].max);
    const auto sum = static_cast<double>(out.states[g].sum);
    for (std::size_t j = 0; j < keys; ++j) {
      EXPECT_NEAR(weights[g][j] * std::exp(references[g][j] - max) / sum, truth.mass[g * keys + j], 1e-6);
    }
  }
}

TEST(Store, IsAKeySource) {
  static_assert(kvkeep::key_source<kvkeep::lane_view<kvkeep::f32, kvkeep::f32>>);
  const fixture f({1, 1, 1, 24}, 40, 8);
  const auto lane = f.store.view(0);
  std::vector<float> scores(13);
  lane.scores(f.query.q, kvkeep::to_slot(9), scores);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    double dot = 0;
    for (std::size_t c = 0; c < 24; ++c)
      dot += static_cast<double>(f.query.q[c]) * static_cast<double>(f.rows.k[(9 + i) * 24 + c]);
    EXPECT_NEAR(static_cast<double>(scores[i]), dot, 1e-5);
  }
  std::vector<float> row(24);
  lane.copy_key(kvkeep::to_slot(17), row);
  EXPECT_EQ(row, std::vector<float>(f.rows.k.begin() + 17 * 24, f.rows.k.begin() + 18 * 24));
  lane.copy_value(kvkeep::to_slot(39), row);
  EXPECT_EQ(row, std::vector<float>(f.rows.v.begin() + 39 * 24, f.rows.v.begin() + 40 * 24));
}

}  // namespace
}  // namespace kvkeep_test
