// The sparse patterns in a cache: attention per layer and head against the reference, and every way to end a step.
#include <gtest/gtest.h>

#include <map>

#include "../support/allocations.hpp"
#include "../support/oracle.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::pattern_parts;
using positions = std::vector<position>;

constexpr kvkeep::model_shape shape{2, 12, 6, 8};

/// The reference's output of query i of one layer, head by head over what that head reads: [query_heads * head_dim].
template <class Pattern>
std::vector<double> reference_row(const Pattern& p, std::size_t layer, position i, position first, bool in_stream,
                                  const kvkeep::position_encoding& encoding) {
  const layer_rows q = rows_of(shape, layer, i, 1);
  const std::size_t dim = shape.head_dim;
  std::map<positions, std::vector<double>> outputs;  // of all heads, did they read these keys
  std::vector<double> row;
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    positions keys;
    for (position j = first; j <= i; ++j) {
      if constexpr (requires { p.variants(); }) {
        if (p.reads(p.variant({layer, head}), i, j)) keys.push_back(j);
      } else {
        if (p.reads(i, j)) keys.push_back(j);
      }
    }
    std::vector<double>& output = outputs[keys];
    if (output.empty()) {
      std::vector<float> k;
      std::vector<float> v;
      for (const position j : keys) {
        const layer_rows key = rows_of(shape, layer, j, 1);
        k.insert(k.end(), key.k.begin(), key.k.end());
        v.insert(v.end(), key.v.begin(), key.v.end());
      }
      output = kvkeep::reference_attention(
                   view(q.q, 1, shape.query_heads, dim), view(k, keys.size(), shape.kv_heads, dim),
                   view(v, keys.size(), shape.kv_heads, dim), {.positions = encoding},
                   [&](std::size_t, std::size_t j) {
                     return std::optional(in_stream ? i - keys[j] : static_cast<position>(keys.size() - 1 - j));
                   })
                   .output;
    }
    const std::size_t group = shape.group() * dim;
    row.insert(row.end(), output.begin() + static_cast<std::ptrdiff_t>(head * group),
               output.begin() + static_cast<std::ptrdiff_t>((head + 1) * group));
  }
  return row;
}

/// Runs a policy through steps of many lengths, some shortened and some abandoned, against the reference.
template <class Policy, class Pattern>
void equals_reference(const Policy& policy, const Pattern& p, bool in_stream, kvkeep::cache_options options) {
  options.max_step = 11;
  auto cache = kvkeep::make_cache(shape, policy, options);
  const position first = options.first_position;
  dice random(7);
  while (cache.next_position() < first + 45) {
    const position at = cache.next_position();
    const std::size_t n = random.between(1, 11);
    const std::size_t count = random.chance(0.6) ? n : random.between(0, n);
    auto step = cache.begin(n, kvkeep::may_shorten);
    scrambled_executor executor{options.workers};
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      const std::vector<float> out = attend_layer(step, shape, layer, at, executor);
      std::vector<double> expected;
      for (std::size_t t = 0; t < n; ++t) {
        const auto row = reference_row(p, layer, at + static_cast<position>(t), first, in_stream, options.positions);
        expected.insert(expected.end(), row.begin(), row.end());
      }
      ASSERT_LT(max_difference(out, expected), 2e-6) << "layer " << layer << " at " << at;
    }
    step.commit(count);
  }
}

/// Calls f(preset, pattern, whether distances are the stream's).
template <class F>
void for_each_preset(const F& f) {
  using namespace kvkeep;
  for (const bool in_stream : {true, false}) {
    const auto distance = in_stream ? pattern_distance::counted::stream : pattern_distance::counted::read;
    for (const pattern_parts parts : {pattern_parts::merged, pattern_parts::by_layer, pattern_parts::by_head}) {
      const sparse_strided s{.stride = 5, .parts = parts, .distance = distance, .max_tokens = 100};
      f(s, s.pattern(), in_stream);
      for (const std::size_t subs : {1U, 3U}) {
        const sparse_fixed x{
            .block = 9, .columns = 2, .sub_blocks = subs, .parts = parts, .distance = distance, .max_tokens = 100};
        f(x, x.pattern(), in_stream);
      }
    }
    for (const log_restarts restarts : {log_restarts::segments, log_restarts::repeated}) {
      const log_sparse_attention l{
          .window = 2, .restart = 12, .restarts = restarts, .distance = distance, .max_tokens = 100};
      f(l, l.pattern(), in_stream);
    }
    const log_sparse_attention whole{.distance = distance, .max_tokens = 100};
    f(whole, whole.pattern(), in_stream);
  }
}

TEST(SparseAttention, EqualsTheReferenceInEveryLayerAndHead) {
  const kvkeep::position_encoding encodings[] = {kvkeep::rope{.theta = 100.0}, kvkeep::alibi{}};
  for_each_preset([&](const auto& preset, const auto& p, bool in_stream) {
    for (const auto& encoding : encodings) {
      equals_reference(preset, p, in_stream, {.positions = encoding});
      equals_reference(preset, p, in_stream,
                       {.positions = encoding, .first_position = 7, .workers = 3, .key_parts = 2});
    }
  });
}

TEST(SparseAttention, IsTheSameOverAStoreThatKeepsEverything) {
  // Heads of one unit that read differently are attended in groups; and what still_read frees nobody would have read.
  using namespace kvkeep;
  for_each_preset([&](const auto& preset, const auto& p, bool in_stream) {
    const policy all{keep_all{100}, p, preset.rules().distance, each_token{}};
    equals_reference(all, p, in_stream, {.positions = rope{.theta = 100.0}, .workers = 2});
    auto mine = make_cache(shape, preset, {.max_step = 8});
    auto whole = make_cache(shape, all, {.max_step = 8});
    while (mine.next_position() < 80) {
      const std::size_t n = 1 + static_cast<std::size_t>(mine.next_position()) % 8;
      const auto out = feed(mine, shape, n);
      const auto expected = feed(whole, shape, n);
      for (std::size_t l = 0; l < shape.layers; ++l) EXPECT_LT(max_difference(out[l], expected[l]), 1e-6);
    }
  });
}

TEST(SparseAttention, DoesNotDependOnHowTheStreamIsCut) {
  for_each_preset([&](const auto& preset, const auto&, bool) {
    auto one = kvkeep::make_cache(shape, preset, {.max_step = 32});
    auto many = kvkeep::make_cache(shape, preset, {.max_step = 32});
    std::vector<std::vector<float>> expected(shape.layers);
    for (int t = 0; t < 90; ++t) {
      const auto out = feed(one, shape, 1);
      for (std::size_t l = 0; l < shape.layers; ++l) {
        expected[l].insert(expected[l].end(), out[l].begin(), out[l].end());
      }
    }
    std::vector<std::vector<float>> got(shape.layers);
    for (const std::size_t n : {32U, 1U, 17U, 32U, 8U}) {
      const auto out = feed(many, shape, n);
      for (std::size_t l = 0; l < shape.layers; ++l) got[l].insert(got[l].end(), out[l].begin(), out[l].end());
    }
    for (std::size_t l = 0; l < shape.layers; ++l) {
      EXPECT_LT(max_difference(got[l], expected[l]), 1e-5);
      for (std::size_t h = 0; h < shape.kv_heads; ++h) EXPECT_EQ(stored(many, l, h), stored(one, l, h));
    }
  });
}

TEST(SparseAttention, IsDenseBitForBitWhereThePatternIs) {
  auto dense = kvkeep::make_cache(shape, kvkeep::dense{.max_tokens = 60}, {.max_step = 7});
  auto strided = kvkeep::make_cache(shape, kvkeep::sparse_strided{.stride = 60, .max_tokens = 60}, {.max_step = 7});
  auto fixed =
      kvkeep::make_cache(shape, kvkeep::sparse_fixed{.block = 60, .columns = 1, .max_tokens = 60}, {.max_step = 7});
  auto log = kvkeep::make_cache(shape, kvkeep::log_sparse_attention{.window = 60, .max_tokens = 60}, {.max_step = 7});
  for (std::size_t n = 1; dense.next_position() + static_cast<position>(n) <= 60; n = n % 7 + 1) {
    const auto expected = feed(dense, shape, n);
    EXPECT_EQ(feed(strided, shape, n), expected);
    EXPECT_EQ(feed(fixed, shape, n), expected);
    EXPECT_EQ(feed(log, shape, n), expected);
  }
}

TEST(SparseAttention, AStepThatNeverHappenedFreesNothing) {
  auto cache =
      kvkeep::make_cache(shape, kvkeep::sparse_fixed{.block = 8, .columns = 2, .max_tokens = 64}, {.max_step = 8});
  feed(cache, shape, 7);
  const positions before = cache.held();
  {
    auto step = cache.begin(8);  // would end the first block
    attend_all(step, shape, 7);
  }
  EXPECT_EQ(cache.held(), before);
  {
    auto step = cache.begin(8, kvkeep::may_shorten);
    attend_all(step, shape, 7);
    step.commit(1);
  }
  EXPECT_EQ(cache.held(), (positions{0, 1, 2, 3, 4, 5, 6, 7})) << "token 7 still reads its block";
  feed(cache, shape, 1);
  EXPECT_EQ(cache.held(), (positions{6, 7, 8}));
}

TEST(SparseAttention, NoStepAllocates) {
  for_each_preset([&](const auto& preset, const auto&, bool) {
    auto cache = kvkeep::make_cache(shape, preset, {.max_step = 9});
    layer_rows rows = rows_of(shape, 0, 0, 9);
    const std::size_t before = allocations();
    for (std::size_t n = 1; n <= 9; ++n) {
      auto step = cache.begin(n);
      for (std::size_t layer = 0; layer < shape.layers; ++layer) {
        step.attend(layer, view(std::as_const(rows.q), n, 12, 8), view(std::as_const(rows.k), n, 6, 8),
                    view(std::as_const(rows.v), n, 6, 8), view(rows.out, n, 12, 8));
      }
      step.commit();
    }
    EXPECT_EQ(allocations(), before);
  });
}

}  // namespace
}  // namespace kvkeep_test
