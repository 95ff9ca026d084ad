// any_cache: what it tells of retrieval is what the typed cache tells.
#include "kvkeep/cache/any_cache.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::chosen_by;
using kvkeep::inf_llm;
using kvkeep::lm_infinite;
using kvkeep::position;

constexpr kvkeep::model_shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 8};
const kvkeep::cache_options options{.positions = kvkeep::rope{.theta = 100.0}, .max_step = 16};

/// Reads the tokens first .. first + n - 1 in one step.
template <class Cache>
void read(Cache& cache, position first, std::size_t n) {
  auto step = cache.begin(n);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    layer_rows rows = rows_of(shape, layer, first, n);
    rows.out.resize(rows.q.size());
    const kvkeep::rows_view<const float> q{rows.q.data(), n, shape.query_heads, shape.head_dim};
    const kvkeep::rows_view<const float> k{rows.k.data(), n, shape.kv_heads, shape.head_dim};
    const kvkeep::rows_view<const float> v{rows.v.data(), n, shape.kv_heads, shape.head_dim};
    step.attend(layer, q, k, v, kvkeep::rows_view<float>{rows.out.data(), n, shape.query_heads, shape.head_dim});
  }
  step.commit();
}

TEST(AnyCache, TellsWhichUnitsWereRetrieved) {
  for (const chosen_by chooses : {chosen_by::layer, chosen_by::kv_head, chosen_by::query_head}) {
    const inf_llm policy{.sinks = 3,
                         .window = 8,
                         .block_size = 4,
                         .count = 2,
                         .representatives = 2,
                         .max_tokens = 64,
                         .chooses = chooses};
    auto typed = kvkeep::make_cache(shape, policy, options);
    auto any = kvkeep::make_cache(shape, kvkeep::any_policy(policy), options);
    EXPECT_TRUE(any.retrieved(1).empty());
    for (position first = 0; first < 48; first += 16) {
      read(typed, first, 16);
      read(any, first, 16);
    }
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      const auto memory = typed.memory();
      const std::vector<kvkeep::retrieved_tokens> retrieved = any.retrieved(layer);
      ASSERT_EQ(retrieved.size(), 2 * memory.choosers());
      for (std::size_t i = 0; i < retrieved.size(); ++i) {
        const std::size_t unit = memory.retrieved(layer, i / 2)[i % 2];
        EXPECT_EQ(retrieved[i].chooser, i / 2);
        EXPECT_EQ(retrieved[i].first, memory.first_of(unit));
        EXPECT_EQ(retrieved[i].first, static_cast<position>(3 + 4 * unit));
        EXPECT_EQ(retrieved[i].last, retrieved[i].first + 4);
        EXPECT_LE(retrieved[i].last, 40) << "the window's tokens are in no unit";
      }
    }
  }
}

TEST(AnyCache, TellsWhichKeysWereRetrieved) {
  const lm_infinite::middle policy{.sinks = 3, .window = 8, .count = 3, .at = 6, .first_layer = 1, .max_tokens = 64};
  auto typed = kvkeep::make_cache(shape, policy, options);
  using core = kvkeep::detail::cache_core<lm_infinite::middle, kvkeep::f32, kvkeep::f32>;
  using model = kvkeep::detail::cache_model<lm_infinite::middle, kvkeep::f32, kvkeep::f32>;
  auto made = core::try_make(shape, policy, options);
  ASSERT_TRUE(made);
  kvkeep::any_cache any(std::make_unique<model>(std::move(*made)));
  read(typed, 0, 16);
  read(any, 0, 16);
  read(typed, 16, 16);
  read(any, 16, 16);
  EXPECT_TRUE(any.retrieved(0).empty()) << "that layer reads none";
  const std::vector<kvkeep::retrieved_tokens> retrieved = any.retrieved(1);
  ASSERT_EQ(retrieved.size(), 3 * shape.query_heads);
  for (std::size_t i = 0; i < retrieved.size(); ++i) {
    EXPECT_EQ(retrieved[i].chooser, i / 3);
    EXPECT_EQ(retrieved[i].first, static_cast<position>(typed.memory().retrieved(1, i / 3)[i % 3]));
    EXPECT_EQ(retrieved[i].last, retrieved[i].first + 1);
  }
}

TEST(AnyCache, RetrievesNothingWherePoliciesRetrieveNothing) {
  auto cache = kvkeep::make_cache(shape, kvkeep::parse_policy("streaming_llm:sinks=2,window=6"), options);
  read(cache, 0, 16);
  EXPECT_TRUE(cache.retrieved(0).empty());
}

}  // namespace
}  // namespace kvkeep_test
