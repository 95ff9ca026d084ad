// A row that is not finite changes only the outputs of queries that read it, in its head; a slot that nobody reads changes
// nothing, whatever bytes it holds.
#include <gtest/gtest.h>

#include <algorithm>

#include "../support/oracle.hpp"

namespace kvkeep_test {
namespace {

enum class part { query, key, value };

constexpr std::size_t poisoned_layer = 1;
constexpr std::size_t poisoned_head = 1;  // kv head; of the query heads of its group the last
constexpr position poisoned_token = 21;

/// Whether query t of the planner's open step reads the token.
template <class Planner>
bool reads(Planner& plan, std::size_t t, position token) {
  const kvkeep::query_view seen = plan.view(0, t);
  for (const kvkeep::key_span& span : seen.spans) {
    for (std::size_t r = 0; r < kvkeep::block_tokens; ++r) {
      if ((span.mask >> r & 1U) == 0) continue;
      if (plan.position_of(kvkeep::to_slot(span.block * kvkeep::block_tokens + r)) == token) return true;
    }
  }
  return false;
}

/// Feeds two caches the same but for one number of one row, in steps of n tokens, and compares bit for bit.
template <class Codecs, class Policy>
void reaches_only_readers(const Policy& policy, std::size_t n, part where, float poison) {
  SCOPED_TRACE(fmt::format("steps of {}, {} in part {}", n, poison, static_cast<int>(where)));
  constexpr kvkeep::model_shape shape{2, 4, 2, Codecs::head_dim};
  constexpr std::size_t dim = shape.head_dim;
  const kvkeep::cache_options options{.positions = kvkeep::rope{.theta = 100.0}, .max_step = n};
  auto clean = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
  auto dirty = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
  auto twin = kvkeep::make_planner(shape, policy, {.max_step = n});
  std::size_t readers = 0;
  std::size_t shown = 0;
  while (clean.next_position() < 130) {
    const position at = clean.next_position();
    const auto expected = feed(clean, shape, n);
    auto step = dirty.begin(n);
    twin.begin(n);
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      layer_rows rows = rows_of(shape, layer, at, n);
      const auto t_of_poison = static_cast<std::size_t>(poisoned_token - at);
      if (layer == poisoned_layer && poisoned_token >= at && t_of_poison < n) {
        if (where == part::query) rows.q[((t_of_poison * 4) + 3) * dim + 3] = poison;
        if (where == part::key) rows.k[(t_of_poison * 2 + poisoned_head) * dim + 3] = poison;
        if (where == part::value) rows.v[(t_of_poison * 2 + poisoned_head) * dim + 3] = poison;
      }
      step.attend(layer, view(std::as_const(rows.q), n, 4, dim), view(std::as_const(rows.k), n, 2, dim),
                  view(std::as_const(rows.v), n, 2, dim), view(rows.out, n, 4, dim));
      for (std::size_t t = 0; t < n; ++t) {
        const position query = at + static_cast<position>(t);
        const bool may = where == part::query ? query == poisoned_token : reads(twin, t, poisoned_token);
        for (std::size_t h = 0; h < 4; ++h) {
          const bool mine = where == part::query ? h == 3 : h / 2 == poisoned_head;
          const auto row = rows.out.begin() + static_cast<std::ptrdiff_t>((t * 4 + h) * dim);
          const bool equal =
              std::equal(row, row + dim, expected[layer].begin() + static_cast<std::ptrdiff_t>((t * 4 + h) * dim));
          if (layer == poisoned_layer && mine && may) {
            ++readers;
            const bool nan = std::any_of(row, row + dim, [](float x) { return std::isnan(x); });
            if (std::isnan(poison) ? nan : !equal) ++shown;
          } else {
            ASSERT_TRUE(equal) << "layer " << layer << " head " << h << " query " << query;
          }
        }
      }
    }
    step.commit();  // the token's slot is used again before the end
    twin.commit();
  }
  EXPECT_GT(readers, 0U);
  EXPECT_EQ(shown, readers) << "the row must show";
  const std::vector<position> held = clean.held();
  EXPECT_EQ(std::count(held.begin(), held.end(), poisoned_token), 0) << "its slot was never used again";
}

template <class Codecs>
class NonFinite : public testing::Test {};
using stored_forms = testing::Types<f32s, stored_as<kvkeep::f16, kvkeep::f16>, stored_as<kvkeep::bf16, kvkeep::int4>,
                                    stored_as<kvkeep::int8, kvkeep::int8>>;
TYPED_TEST_SUITE(NonFinite, stored_forms);

TYPED_TEST(NonFinite, RowsReachOnlyTheirReadersInTheirHead) {
  for (const std::size_t n : {std::size_t{1}, std::size_t{4}, std::size_t{13}}) {  // 2, 8 and 26 rows together
    for (const part where : {part::query, part::key, part::value}) {
      for (const float poison : {NAN, INFINITY, -INFINITY}) {
        reaches_only_readers<TypeParam>(kvkeep::streaming_llm{.sinks = 1, .window = 20}, n, where, poison);
        reaches_only_readers<TypeParam>(kvkeep::random_eviction{.sinks = 1, .window = 9, .count = 8, .seed = 3}, n,
                                        where, poison);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TYPED_TEST(NonFinite, SlotsNobodyReadsChangeNothing) {
  // Whole storage full of NaN, then forgotten: a stream that begins again is that of a fresh cache.
  constexpr kvkeep::model_shape shape{1, 4, 2, TypeParam::head_dim};
  constexpr std::size_t dim = shape.head_dim;
  const auto both = [&](const auto& policy) {
    for (const std::size_t n : {std::size_t{1}, std::size_t{30}}) {
      auto fresh =
          kvkeep::make_cache<typename TypeParam::key, typename TypeParam::value>(shape, policy, {.max_step = 30});
      auto used =
          kvkeep::make_cache<typename TypeParam::key, typename TypeParam::value>(shape, policy, {.max_step = 30});
      const std::vector<float> nan(30 * 4 * dim, NAN);
      std::vector<float> out(30 * 4 * dim);
      for (int i = 0; i < 4; ++i) {
        auto step = used.begin(30);
        step.attend(0, view(nan, 30, 4, dim), view(nan, 30, 2, dim), view(nan, 30, 2, dim), view(out, 30, 4, dim));
        step.commit();
      }
      EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float x) { return std::isnan(x); }));
      used.clear();
      for (int i = 0; i < 5; ++i) ASSERT_EQ(feed(used, shape, n), feed(fresh, shape, n));
    }
  };
  both(kvkeep::streaming_llm{.sinks = 1, .window = 20});
  both(kvkeep::random_eviction{.sinks = 1, .window = 9, .count = 8});
}

}  // namespace
}  // namespace kvkeep_test
