// Attention that is shared out over workers and over parts of the keys: the same bits whoever works, and the same result.
#include <gtest/gtest.h>

#include <stdexcept>

#include "../support/allocations.hpp"
#include "../support/cases.hpp"
#include "../support/oracle.hpp"
#include "kvkeep/core/thread_executor.hpp"

namespace kvkeep_test {
namespace {

using int8s = stored_as<kvkeep::int8, kvkeep::int8>;

constexpr std::size_t steps[] = {1, 7, 40, 1, 200, 1};

/// The outputs of steps of many sizes, one row of floats after another.
template <class Codecs, class Policy>
std::vector<float> outputs(const kvkeep::model_shape& shape, const Policy& policy, const kvkeep::cache_options& options,
                           const kvkeep::executor_ref& executor) {
  auto cache = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
  std::vector<float> all;
  for (const std::size_t n : steps) {
    const position first = cache.next_position();
    auto step = cache.begin(n);
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      const std::vector<float> out = attend_layer(step, shape, layer, first, executor);
      all.insert(all.end(), out.begin(), out.end());
    }
    step.commit();
    if (n == 7) cache.erase(1, 3);
  }
  return all;
}

/// What serial attention in one part gives, after checks that whoever attends in however many parts gives it too.
template <class Codecs, class Policy>
void is_the_same_for_everyone(const std::string& name, const kvkeep::model_shape& shape, const Policy& policy,
                              kvkeep::cache_options options) {
  SCOPED_TRACE(name);
  options.max_step = 200;
  const std::vector<float> alone = outputs<Codecs>(shape, policy, options, {});
  for (const std::size_t parts : {std::size_t{1}, std::size_t{3}, std::size_t{200}}) {  // 200: more than spans
    SCOPED_TRACE(fmt::format("{} parts", parts));
    options.key_parts = parts;
    options.workers = 1;
    const std::vector<float> serial = outputs<Codecs>(shape, policy, options, {});
    ASSERT_LT(max_difference(serial, alone), 1e-5);
    if (parts == 1) ASSERT_EQ(serial, alone);
    if (parts == 200) continue;
    options.workers = 5;
    ASSERT_EQ(outputs<Codecs>(shape, policy, options, {}), serial) << "serially in a cache for 5";
    for (const std::size_t workers : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{5}}) {
      const scrambled_executor scrambled{workers};
      ASSERT_EQ(outputs<Codecs>(shape, policy, options, scrambled), serial) << workers << " workers in another order";
    }
    kvkeep::thread_executor threads(3);
    ASSERT_EQ(outputs<Codecs>(shape, policy, options, threads), serial) << "on threads";
  }
}

const kvkeep::rope rotary{.theta = 100.0};
const kvkeep::streaming_llm streaming{.sinks = 3, .window = 61};
const kvkeep::random_eviction scattered{.sinks = 2, .window = 20, .count = 40};

template <class Codecs>
void every_storage(const kvkeep::model_shape& shape, const kvkeep::cache_options& options) {
  is_the_same_for_everyone<Codecs>("streaming_llm", shape, streaming, options);
  is_the_same_for_everyone<Codecs>("dense", shape, kvkeep::dense{.max_tokens = 260}, options);
  is_the_same_for_everyone<Codecs>("lm_infinite", shape, kvkeep::lm_infinite{.sinks = 5, .window = 50}, options);
  is_the_same_for_everyone<Codecs>("random", shape, scattered, options);
}

TEST(SharedAttention, IsTheSameWhoeverWorks) {
  every_storage<f32s>({1, 6, 3, 8}, {.positions = rotary});
  every_storage<int8s>({1, 4, 2, 32}, {.positions = rotary});
}

TEST(SharedAttention, IsTheSameWhoeverWorksWithAlibi) {
  every_storage<f32s>({1, 4, 2, 8}, {.positions = kvkeep::alibi{}});
  is_the_same_for_everyone<int8s>("int8", {1, 4, 2, 32}, streaming, {.positions = kvkeep::alibi{}});
}

TEST(SharedAttention, IsTheSameForEveryGroupSize) {
  const std::pair<std::size_t, std::size_t> heads[] = {{1, 1}, {4, 4}, {5, 1}, {16, 2}, {70, 1}};
  for (const auto& [query_heads, kv_heads] : heads) {
    is_the_same_for_everyone<f32s>(fmt::format("{} on {}", query_heads, kv_heads), {1, query_heads, kv_heads, 4},
                                   streaming, {.positions = rotary});
    is_the_same_for_everyone<f32s>(fmt::format("{} on {}, scattered", query_heads, kv_heads),
                                   {1, query_heads, kv_heads, 4}, scattered, {.positions = rotary});
  }
}

/// Compares steps of a cache in 3 parts with the reference.
template <class Codecs, class Policy>
void equals_the_reference(const Policy& policy, const kvkeep::cache_options& options) {
  constexpr kvkeep::model_shape shape{1, 4, 2, Codecs::head_dim};
  auto cache = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
  auto twin = kvkeep::make_planner(shape, policy, {.max_step = options.max_step});
  const scrambled_executor executor{options.workers};
  for (const std::size_t n : steps) {
    const position first = cache.next_position();
    auto step = cache.begin(n);
    twin.begin(n);
    const std::vector<float> out = attend_layer(step, shape, 0, first, executor);
    std::vector<double> expected;
    for (std::size_t t = 0; t < n; ++t) {
      for (std::size_t h = 0; h < shape.kv_heads; ++h) {
        const query_truth truth = truth_of<Codecs>(twin, shape, options, 0, h, t);
        expected.insert(expected.end(), truth.output.begin(), truth.output.end());
      }
    }
    ASSERT_LT(max_difference(out, expected), 1e-5) << n << " tokens at " << first;
    step.commit();
    twin.commit();
  }
}

TEST(SharedAttention, InPartsIsTheReferences) {
  const std::vector<float> logits{1.5F, -2.0F, 6.0F, 0.0F};  // of sinks: counted once, however many parts there are
  for (const kvkeep::position_encoding& positions :
       {kvkeep::position_encoding(rotary), kvkeep::position_encoding(kvkeep::alibi{})}) {
    const kvkeep::cache_options options{
        .positions = positions, .max_step = 200, .sink_logits = logits, .workers = 2, .key_parts = 3};
    equals_the_reference<f32s>(streaming, options);
    equals_the_reference<f32s>(scattered, options);
    equals_the_reference<int8s>(streaming, options);
    equals_the_reference<int8s>(scattered, options);
  }
}

constexpr kvkeep::model_shape small{2, 4, 2, 8};

TEST(SharedAttention, TakesNoMoreWorkersThanTheCacheIsFor) {
  const kvkeep::cache_options options{.max_step = 4, .workers = 2};
  auto cache = kvkeep::make_cache(small, streaming, options);
  auto twin = kvkeep::make_cache(small, streaming, options);
  const auto expected = feed(twin, small, 3);
  layer_rows rows = rows_of(small, 0, 0, 3);
  auto step = cache.begin(3);
  for (const std::size_t workers : {std::size_t{3}, std::size_t{0}}) {
    const scrambled_executor executor{workers};
    const auto refused = step.try_attend(0, view(std::as_const(rows.q), 3, 4, 8), view(std::as_const(rows.v), 3, 2, 8),
                                         view(std::as_const(rows.k), 3, 2, 8), view(rows.out, 3, 4, 8), executor);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), kvkeep::errc::invalid_argument);
    EXPECT_EQ(refused.error().argument(), "executor.workers");
    EXPECT_EQ(refused.error().message(),
              fmt::format("kvkeep: executor.workers = {}; allowed: 1 .. 2, cache_options::workers", workers));
    EXPECT_EQ(rows.out, std::vector<float>(rows.out.size(), -77.0F)) << "nothing was done";
  }
  EXPECT_EQ(attend_all(step, small, 0), expected) << "the layer can still be attended";
  step.commit();
  EXPECT_EQ(stored(cache, 0, 1), stored(twin, 0, 1));
}

TEST(SharedAttention, OptionsAreChecked) {
  const auto message = [](const kvkeep::cache_options& options) {
    const auto made = kvkeep::try_make_cache(small, streaming, options);
    return made ? std::string("no error") : made.error().message();
  };
  EXPECT_EQ(message({.workers = 0}), "kvkeep: workers = 0; allowed: 1 .. 1024");
  EXPECT_EQ(message({.workers = 1025}), "kvkeep: workers = 1025; allowed: 1 .. 1024");
  EXPECT_EQ(message({.key_parts = 0}), "kvkeep: key_parts = 0; allowed: 1 .. 1024");
  EXPECT_EQ(message({.key_parts = 1025}), "kvkeep: key_parts = 1025; allowed: 1 .. 1024");
  EXPECT_EQ(message({.max_step = 1, .workers = 1024, .key_parts = 1024}), "no error");
}

TEST(SharedAttention, TakesTheBytesPromisedAndNoMore) {
  kvkeep::thread_executor threads(3);
  const kvkeep::position_encoding encodings[] = {rotary, kvkeep::alibi{}};
  for (const auto& encoding : encodings) {
    for_each_storage(0, [&](const std::string& name, const auto& policy, const words&, std::size_t) {
      for (const std::size_t parts : {std::size_t{1}, std::size_t{4}}) {
        SCOPED_TRACE(name);
        const kvkeep::cache_options options{.positions = encoding, .max_step = 20, .workers = 3, .key_parts = parts};
        const kvkeep::cache_bytes promised = kvkeep::cache_bytes_of(small, policy, options);
        const std::size_t before = bytes_allocated();
        auto cache = kvkeep::make_cache(small, policy, options);
        EXPECT_EQ(bytes_allocated() - before, promised.total);
        layer_rows rows = rows_of(small, 0, 0, 20);
        const std::size_t count = allocations();
        for (std::size_t i = 0; i < 60; ++i) {
          const std::size_t n = 1 + i % 20;
          auto step = cache.begin(n);
          for (std::size_t layer = 0; layer < small.layers; ++layer) {
            step.attend(layer, view(std::as_const(rows.q), n, 4, 8), view(std::as_const(rows.k), n, 2, 8),
                        view(std::as_const(rows.v), n, 2, 8), view(rows.out, n, 4, 8), threads);
          }
          step.commit();
        }
        EXPECT_EQ(allocations() - count, 0U);
      }
    });
  }
}

/// An executor that fails when it is told to, having done some of the work.
struct failing_executor {
  std::size_t fail_at = ~std::size_t{0};  // task
  [[nodiscard]] static std::size_t workers() { return 1; }
  void run(std::size_t tasks, kvkeep::task_ref f) const {
    for (std::size_t task = 0; task < tasks; ++task) {
      if (task == fail_at) throw std::runtime_error("executor");
      f(task, 0);
    }
  }
};

TEST(SharedAttention, ALayerWhoseExecutorThrewIsAttendedAgain) {
  for (const std::size_t parts : {std::size_t{1}, std::size_t{3}}) {
    const kvkeep::cache_options options{.max_step = 50, .key_parts = parts};
    auto cache = kvkeep::make_cache(small, scattered, options);
    auto twin = kvkeep::make_cache(small, scattered, options);
    for (const std::size_t n : {std::size_t{50}, std::size_t{50}, std::size_t{1}, std::size_t{3}}) {
      const position first = cache.next_position();
      const auto expected = feed(twin, small, n);
      auto step = cache.begin(n);
      for (std::size_t layer = 0; layer < small.layers; ++layer) {
        const failing_executor failing{layer % parts};  // there are as many tasks as parts, or more
        EXPECT_THROW(attend_layer(step, small, layer, first, failing), std::runtime_error);
        EXPECT_FALSE(step.try_commit()) << "the layer was not attended";
        EXPECT_EQ(attend_layer(step, small, layer, first), expected[layer]);
      }
      step.commit();
      EXPECT_EQ(stored(cache, 1, 1), stored(twin, 1, 1));
    }
  }
}

}  // namespace
}  // namespace kvkeep_test
