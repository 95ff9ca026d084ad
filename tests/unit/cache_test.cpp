// The cache as its users see it: bytes, allocations, events, blocks, layers in any order.
#include "kvkeep/cache/cache.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "../support/allocations.hpp"
#include "../support/cases.hpp"
#include "../support/rows.hpp"
#include "kvkeep/cache/any_cache.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::position;
using positions = std::vector<position>;
constexpr kvkeep::model_shape shape{2, 4, 2, 8};

TEST(Cache, BytesPromisedAreBytesUsed) {
  const kvkeep::position_encoding encodings[] = {kvkeep::rope{.theta = 1000.0}, kvkeep::alibi{},
                                                 kvkeep::no_positions{}};
  for (const auto& encoding : encodings) {
    for_each_policy(0, [&](const std::string& name, const auto& policy, const words&, std::size_t) {
      for (const std::size_t max_step : {std::size_t{1}, std::size_t{100}}) {
        const kvkeep::cache_options options{.positions = encoding, .max_step = max_step};
        const kvkeep::cache_bytes promised = kvkeep::cache_bytes_of(shape, policy, options);
        const std::size_t before = bytes_allocated();
        auto cache = kvkeep::make_cache(shape, policy, options);
        EXPECT_EQ(bytes_allocated() - before, promised.total) << name;
        EXPECT_EQ(cache.bytes().total, promised.total);
        EXPECT_EQ(promised.keys + promised.values + promised.tables + promised.scratch, promised.total);
      }
    });
  }
  EXPECT_EQ(kvkeep::cache_bytes_of({1, 1, 1, 64}, kvkeep::sliding_window{.window = 100}, {.max_step = 28}).keys,
            128 * 64 * 4);
}

TEST(Cache, NoStepAllocates) {
  for_each_policy(0, [&](const std::string& name, const auto& policy, const words&, std::size_t reserved) {
    std::size_t told = 0;
    auto listener = [&](const kvkeep::drop_event& e) { told += e.dropped.size(); };
    auto cache = kvkeep::make_cache(shape, policy, {.max_step = 16, .on_drop = listener});
    layer_rows rows = rows_of(shape, 0, 0, 16);
    const std::size_t before = allocations();
    for (std::size_t i = 0; i < 300; ++i) {
      const std::size_t n = 1 + i % 16;
      {
        auto step = cache.begin(n);
        for (std::size_t layer = 0; layer < shape.layers; ++layer) {
          step.attend(layer, view(std::as_const(rows.q), n, 4, 8), view(std::as_const(rows.k), n, 2, 8),
                      view(std::as_const(rows.v), n, 2, 8), view(rows.out, n, 4, 8));
        }
        if (i % 7 == 3) {
          step.commit(n / 2);
        } else if (i % 7 != 5) {
          step.commit();
        }
      }
      if (i % 50 == 10) cache.erase(cache.next_position() / 2, cache.next_position() / 2 + 3);
      if (i % 50 == 20 && reserved > 0) cache.reserve(reserved / 2);
    }
    EXPECT_EQ(allocations() - before, 0U) << name;
    EXPECT_GT(told, 0U) << name;
  });
}

TEST(Cache, TellsWhatWasDroppedAndWhy) {
  std::vector<std::pair<kvkeep::drop_reason, positions>> heard;
  auto listener = [&](const kvkeep::drop_event& e) {
    positions dropped;
    for (const auto& d : e.dropped) dropped.push_back(d.at);
    heard.emplace_back(e.reason, dropped);
  };
  auto cache =
      kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 1, .window = 3}, {.max_step = 8, .on_drop = listener});
  feed(cache, shape, 4);
  EXPECT_TRUE(heard.empty());
  feed(cache, shape, 6);  // tokens 4 .. 9: 1 .. 3 go, and 4 .. 6 come and go within the step
  cache.erase(7, 8);
  cache.reserve(2);
  cache.reserve(0);  // nothing goes, nothing is told
  {
    auto step = cache.begin(2);
    attend_all(step, shape, cache.next_position());
  }
  cache.clear();
  using enum kvkeep::drop_reason;
  const std::vector<std::pair<kvkeep::drop_reason, positions>> expected{
      {evicted, {1, 2, 3, 4, 5, 6}}, {erased, {7}}, {reserved, {8}}, {cleared, {0, 9}}};
  EXPECT_EQ(heard, expected);
  EXPECT_EQ(cache.next_position(), 0);
}

TEST(Cache, AListenerThatThrowsChangesNothing) {
  bool angry = true;
  const auto listener = [&](const kvkeep::drop_event&) {
    if (angry) throw std::runtime_error("listener");
  };
  auto cache = kvkeep::make_cache(shape, kvkeep::sliding_window{.window = 3}, {.max_step = 4, .on_drop = listener});
  auto twin = kvkeep::make_cache(shape, kvkeep::sliding_window{.window = 3}, {.max_step = 4});
  feed(twin, shape, 4);
  {
    auto first = cache.begin(4);
    attend_all(first, shape, 0);
    EXPECT_THROW(first.commit(), std::runtime_error);
    EXPECT_FALSE(first.open()) << "the commit has happened";
    EXPECT_EQ(cache.held(), twin.held());
    angry = false;
    auto second = cache.begin(2);
    { auto gone = std::move(first); }
    EXPECT_EQ(second.tokens(), 2U) << "the first step's end does not touch the second";
    attend_all(second, shape, 4);
    second.commit();
  }
  feed(twin, shape, 2);
  EXPECT_EQ(stored(cache, 1, 1), stored(twin, 1, 1));
}

TEST(Cache, KeepsBlocksFew) {
  // A window that slides in large steps leaves the sinks alone in their block; nothing may hold more than one block beyond
  // the fewest after any commit.
  for (const std::size_t window : {std::size_t{15}, std::size_t{33}, std::size_t{100}}) {
    auto cache = kvkeep::make_cache(shape, kvkeep::streaming_llm{.sinks = 5, .window = window}, {.max_step = 64});
    dice random(window);
    for (int i = 0; i < 100; ++i) {
      feed(cache, shape, random.between(1, 64));
      EXPECT_LE(cache.block_count(), (cache.held_count() + 15) / 16 + 1);
    }
  }
}

TEST(Cache, LayersComeInAnyOrder) {
  auto forward = kvkeep::make_cache(shape, kvkeep::lm_infinite{.sinks = 2, .window = 9});
  auto backward = kvkeep::make_cache(shape, kvkeep::lm_infinite{.sinks = 2, .window = 9});
  for (int i = 0; i < 20; ++i) {
    const position at = forward.next_position();
    const auto expected = feed(forward, shape, 3);
    auto step = backward.begin(3);
    for (std::size_t layer = shape.layers; layer-- > 0;) {
      layer_rows rows = rows_of(shape, layer, at, 3);
      step.attend(layer, view(std::as_const(rows.q), 3, 4, 8), view(std::as_const(rows.k), 3, 2, 8),
                  view(std::as_const(rows.v), 3, 2, 8), view(rows.out, 3, 4, 8));
      EXPECT_EQ(rows.out, expected[layer]);
    }
    step.commit();
  }
}

TEST(Cache, TakesEigenTensorsAndStrides) {
  using tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  auto cache = kvkeep::make_cache({1, 4, 2, 8}, kvkeep::sliding_window{.window = 4});
  auto strided = kvkeep::make_cache({1, 4, 2, 8}, kvkeep::sliding_window{.window = 4});
  tensor q(3, 4, 8);
  tensor k(3, 2, 8);
  tensor v(3, 2, 8);
  tensor out(3, 4, 8);
  q.setRandom();
  k.setRandom();
  v.setRandom();
  auto step = cache.begin(3);
  step.attend(0, q, k, v, out);
  step.commit();
  // One buffer with q, k and v of a token side by side, as fused projections give them.
  std::vector<float> fused(3 * 64);
  std::vector<float> wide_out(3 * 40, 5.0F);
  for (std::size_t t = 0; t < 3; ++t) {
    std::copy_n(q.data() + t * 32, 32, fused.data() + t * 64);
    std::copy_n(k.data() + t * 16, 16, fused.data() + t * 64 + 32);
    std::copy_n(v.data() + t * 16, 16, fused.data() + t * 64 + 48);
  }
  auto same = strided.begin(3);
  same.attend(0, {fused.data(), 3, 4, 8, 64}, {fused.data() + 32, 3, 2, 8, 64}, {fused.data() + 48, 3, 2, 8, 64},
              kvkeep::rows_view<float>{wide_out.data(), 3, 4, 8, 40});
  same.commit();
  for (std::size_t t = 0; t < 3; ++t) {
    for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(wide_out[t * 40 + i], out.data()[t * 32 + i]);
    for (std::size_t i = 32; i < 40; ++i) EXPECT_EQ(wide_out[t * 40 + i], 5.0F) << "written beyond the rows";
  }
}

TEST(Cache, MovesWithAnOpenStep) {
  auto cache = kvkeep::make_cache(shape, kvkeep::sliding_window{.window = 4}, {.max_step = 4});
  auto step = cache.begin(2);
  auto moved = std::move(cache);
  attend_all(step, shape, 0);
  step.commit();
  EXPECT_EQ(moved.held(), (positions{0, 1}));
  EXPECT_FALSE(step.open());
}

TEST(AnyCache, BytesPromisedAreBytesUsed) {
  constexpr kvkeep::model_shape deep{5, 4, 2, 8};  // lm_infinite_middle reads middle keys from layer 4 on
  for (const auto& spec : kvkeep::policy_specs()) {
    const auto policy = kvkeep::parse_policy(spec.name, {.max_tokens = 100});
    const kvkeep::cache_bytes promised = kvkeep::cache_bytes_of(deep, policy, {.max_step = 32});
    const std::size_t before = bytes_allocated();
    auto cache = kvkeep::make_cache(deep, policy, {.max_step = 32});
    EXPECT_EQ(bytes_allocated() - before, promised.total) << spec.name;
    EXPECT_EQ(cache.bytes().total, promised.total);
  }
}

TEST(AnyCache, DoesWhatItsPolicyDoes) {
  const auto policy = kvkeep::parse_policy("lm_infinite:sinks=2,window=9,limit_distance=5");
  auto any = kvkeep::make_cache(shape, policy, {.max_step = 8});
  auto plain =
      kvkeep::make_cache(shape, kvkeep::lm_infinite{.sinks = 2, .window = 9, .limit_distance = 5}, {.max_step = 8});
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(feed(any, shape, 5), feed(plain, shape, 5));
    EXPECT_EQ(any.held(), plain.held());
    EXPECT_EQ(any.next_held(), plain.next_held());
  }
  {
    auto step = any.begin(3);
    EXPECT_FALSE(any.try_reserve(1));
    EXPECT_EQ(step.tokens(), 3U);
  }
  any.reserve(4);
  plain.reserve(4);
  any.erase(47, 48);
  plain.erase(47, 48);
  EXPECT_EQ(any.held(), plain.held());
  EXPECT_EQ(any.bytes().keys, plain.bytes().keys);
  EXPECT_EQ(any.capacity(), plain.capacity());
  EXPECT_EQ(any.block_count(), plain.block_count());
  EXPECT_EQ(stored(any, 1, 0), stored(plain, 1, 0));
  any.end_turn();
  any.clear();
  EXPECT_TRUE(any.held().empty());
}

}  // namespace
}  // namespace kvkeep_test
