// Every shipped policy, and one of a user's, against the contract.
#include "conformance.hpp"

namespace kvkeep_test {
namespace {

TEST(Conformance, PlannersKeepTheirPromises) {
  std::uint64_t seed = 1;
  for_each_policy(7, [&](const std::string& name, const auto& policy, const words&, std::size_t) {
    conforms(name, policy, seed++);
  });
  conforms("refusing before_step",
           kvkeep::policy{kvkeep::keep{kvkeep::sinks{3}, kvkeep::recent{25}}, kvkeep::read_all{},
                          kvkeep::cache_distance{}, kvkeep::before_step{}},
           seed++);
}

template <class Codecs>
class EveryCodec : public testing::Test {};
TYPED_TEST_SUITE(EveryCodec, all_codecs);

TYPED_TEST(EveryCodec, ChunksDoNotMatter) {
  std::uint64_t seed = 50;
  const kvkeep::position_encoding encodings[] = {kvkeep::rope{.theta = 100.0}, kvkeep::alibi{}};
  for (const auto& encoding : encodings) {
    for_each_policy(0, [&](const std::string& name, const auto& policy, const words&, std::size_t) {
      chunk_invariant<TypeParam>(name, policy, encoding, seed++);
    });
  }
}

TYPED_TEST(EveryCodec, WithoutEvictionAllAreDense) {
  equals_dense_while_nothing_is_evicted<TypeParam>("sliding_window", kvkeep::sliding_window{.window = 60}, 60, true);
  equals_dense_while_nothing_is_evicted<TypeParam>("streaming_llm", kvkeep::streaming_llm{.sinks = 4, .window = 56}, 60,
                                                   true);
  equals_dense_while_nothing_is_evicted<TypeParam>("settled", kvkeep::streaming_llm::settled{.sinks = 4, .window = 60},
                                                   60, true);
  equals_dense_while_nothing_is_evicted<TypeParam>(
      "published", kvkeep::streaming_llm::published{.start = 4, .recent = 56}, 60, true);
  equals_dense_while_nothing_is_evicted<TypeParam>(
      "random", kvkeep::random_eviction{.sinks = 4, .window = 30, .count = 26}, 60, false);
  equals_dense_while_nothing_is_evicted<TypeParam>(
      "interval", kvkeep::interval_eviction{.sinks = 4, .window = 30, .count = 26}, 60, false);
  equals_dense_while_nothing_is_evicted<TypeParam>("lm_infinite", kvkeep::lm_infinite{.sinks = 4, .window = 60}, 60,
                                                   false);
  equals_dense_while_nothing_is_evicted<TypeParam>("lm_infinite without sinks",
                                                   kvkeep::lm_infinite{.sinks = 0, .window = 60}, 60, true);
}

template <class Codecs>
class MoreCodecs : public testing::Test {};
TYPED_TEST_SUITE(MoreCodecs, more_codecs);

TYPED_TEST(MoreCodecs, ChunksDoNotMatter) {
  std::uint64_t seed = 90;
  for_each_storage(0, [&](const std::string& name, const auto& policy, const words&, std::size_t) {
    chunk_invariant<TypeParam>(name, policy, kvkeep::rope{.theta = 100.0}, seed++);
  });
}

TYPED_TEST(MoreCodecs, WithoutEvictionAllAreDense) {
  equals_dense_while_nothing_is_evicted<TypeParam>("streaming_llm", kvkeep::streaming_llm{.sinks = 4, .window = 56}, 60,
                                                   true);
}

TEST(Conformance, GroupedQueriesEqualRepeatedKeys) {
  // GQA: kv_heads < query_heads gives what repeating every kv head gives.
  constexpr kvkeep::model_shape grouped{1, 6, 2, 8};
  constexpr kvkeep::model_shape repeated{1, 6, 6, 8};
  const auto both = [&](const auto& policy) {
    auto few = kvkeep::make_cache(grouped, policy, {.max_step = 8});
    auto many = kvkeep::make_cache(repeated, policy, {.max_step = 8});
    for (int i = 0; i < 15; ++i) {
      layer_rows rows = rows_of(grouped, 0, few.next_position(), 4);
      std::vector<float> k;
      std::vector<float> v;
      for (std::size_t t = 0; t < 4; ++t) {
        for (std::size_t h = 0; h < 6; ++h) {
          for (std::size_t c = 0; c < 8; ++c) {
            k.push_back(rows.k[(t * 2 + h / 3) * 8 + c]);
            v.push_back(rows.v[(t * 2 + h / 3) * 8 + c]);
          }
        }
      }
      std::vector<float> out(rows.out.size());
      auto one = few.begin(4);
      one.attend(0, view(std::as_const(rows.q), 4, 6, 8), view(std::as_const(rows.k), 4, 2, 8),
                 view(std::as_const(rows.v), 4, 2, 8), view(rows.out, 4, 6, 8));
      one.commit();
      auto other = many.begin(4);
      other.attend(0, view(std::as_const(rows.q), 4, 6, 8), view(std::as_const(k), 4, 6, 8),
                   view(std::as_const(v), 4, 6, 8), view(out, 4, 6, 8));
      other.commit();
      EXPECT_EQ(out, rows.out);
    }
  };
  both(kvkeep::streaming_llm{.sinks = 2, .window = 9});
  both(kvkeep::lm_infinite{.sinks = 2, .window = 9});
  both(kvkeep::inf_llm{.sinks = 2, .window = 9, .block_size = 4, .count = 2, .representatives = 2, .max_tokens = 100});
  both(kvkeep::unlimiformer{.sinks = 2, .window = 9, .count = 5, .max_tokens = 100});
  both(kvkeep::policy{kvkeep::keep_all{100}, kvkeep::read_all{}, kvkeep::clamped_distance{7}, kvkeep::each_token{}});
}

/// A budget per layer and kv head: ragged, with memory of its own for each.
struct ragged {
  static constexpr kvkeep::scope scope = kvkeep::scope::kv_head;
  static constexpr bool leaves_runs = true;
  [[nodiscard]] std::size_t share(const kvkeep::unit_place& p) const { return 5 + 9 * p.layer + 4 * p.kv_head; }
};

/// A budget per layer.
struct by_layer {
  static constexpr kvkeep::scope scope = kvkeep::scope::layer;
  static constexpr bool leaves_runs = true;
  [[nodiscard]] std::size_t share(const kvkeep::unit_place& p) const { return 6 + 11 * p.layer; }
};

TEST(Conformance, LayersWithBudgetsOfTheirOwn) {
  constexpr kvkeep::model_shape shape{3, 4, 2, 8};
  auto cache = kvkeep::make_cache(shape, kvkeep::policy{kvkeep::keep{by_layer{}}}, {.max_step = 6});
  ASSERT_EQ(cache.units(), 3U);
  std::vector<kvkeep::cache<kvkeep::sliding_window>> whole;
  for (std::size_t l = 0; l < 3; ++l) {
    whole.push_back(
        kvkeep::make_cache(shape, kvkeep::sliding_window{.window = by_layer{}.share({l, 0})}, {.max_step = 6}));
  }
  for (std::size_t i = 0; i < 30; ++i) {
    const auto out = feed(cache, shape, 1 + i % 6);
    for (std::size_t l = 0; l < 3; ++l) {
      EXPECT_EQ(out[l], feed(whole[l], shape, 1 + i % 6)[l]);
      EXPECT_EQ(cache.held(cache.unit_of(l, 1)), whole[l].held());
      EXPECT_EQ(stored(cache, l, 1), stored(whole[l], l, 1));
    }
  }
}

TEST(Conformance, RaggedUnitsEqualCachesOfTheirOwn) {
  // A cache with a budget per head gives what one cache a head gives, and takes less memory than equal budgets.
  constexpr kvkeep::model_shape shape{2, 4, 2, 8};
  auto cache = kvkeep::make_cache(shape, kvkeep::policy{kvkeep::keep{ragged{}}}, {.max_step = 6});
  std::vector<kvkeep::cache<kvkeep::sliding_window>> single;
  for (std::size_t l = 0; l < 2; ++l) {
    for (std::size_t h = 0; h < 2; ++h) {
      single.push_back(
          kvkeep::make_cache({1, 2, 1, 8}, kvkeep::sliding_window{.window = ragged{}.share({l, h})}, {.max_step = 6}));
    }
  }
  dice random(3);
  for (int i = 0; i < 40; ++i) {
    const std::size_t n = random.between(1, 6);
    const position at = cache.next_position();
    auto step = cache.begin(n);
    const auto out = attend_all(step, shape, at);
    step.commit();
    for (std::size_t l = 0; l < 2; ++l) {
      const layer_rows rows = rows_of(shape, l, at, n);
      for (std::size_t h = 0; h < 2; ++h) {
        std::vector<float> mine(n * 2 * 8);
        auto part = single[l * 2 + h].begin(n);
        part.attend(0, {rows.q.data() + h * 16, n, 2, 8, 32}, {rows.k.data() + h * 8, n, 1, 8, 16},
                    {rows.v.data() + h * 8, n, 1, 8, 16}, view(mine, n, 2, 8));
        part.commit();
        for (std::size_t t = 0; t < n; ++t) {
          for (std::size_t c = 0; c < 16; ++c) EXPECT_EQ(mine[t * 16 + c], out[l][t * 32 + h * 16 + c]);
        }
        EXPECT_EQ(cache.held(cache.unit_of(l, h)), single[l * 2 + h].held());
      }
    }
  }
  EXPECT_LT(cache.bytes().keys,
            kvkeep::cache_bytes_of(shape, kvkeep::sliding_window{.window = 18}, {.max_step = 6}).keys);
}

}  // namespace
}  // namespace kvkeep_test
