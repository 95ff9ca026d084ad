// nearest_keys in a cache like any other: every encoding of keys, workers, positions, and what a step costs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "../support/allocations.hpp"
#include "../support/rows.hpp"
#include "kvkeep/core/thread_executor.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::chosen_by;
using kvkeep::position;
using kvkeep::unlimiformer;
using numbers = std::vector<std::uint32_t>;

constexpr kvkeep::model_shape shape{1, 4, 2, 32};
constexpr std::size_t dim = 32;

/// A key as a codec keeps it.
template <class Codec>
std::vector<float> kept(const float* key) {
  std::vector<std::byte> block(Codec::key_block_bytes(dim));
  Codec::write_key(block.data(), 3, {key, dim});
  std::vector<float> out(dim);
  Codec::read_key(block.data(), 3, out);
  return out;
}

template <class Codec>
class NearestKeysOf : public testing::Test {};
using codecs = testing::Types<kvkeep::f32, kvkeep::f16, kvkeep::bf16, kvkeep::int8, kvkeep::int4>;
TYPED_TEST_SUITE(NearestKeysOf, codecs);

// The nearest of the keys that are stored, not of those that came.
TYPED_TEST(NearestKeysOf, AnEncodingAreThoseOfItsStoredKeys) {
  using codec = TypeParam;
  constexpr std::size_t tokens = 100;
  constexpr std::size_t window = 10;
  constexpr std::size_t count = 9;
  constexpr position at = 6;
  const kvkeep::rope rotary{.theta = 100.0};
  const auto frequencies = *kvkeep::try_rope_frequencies(rotary, dim, 0);
  auto cache = kvkeep::make_cache<codec, kvkeep::f32>(
      shape, unlimiformer{.window = window, .count = count, .at = static_cast<std::size_t>(at), .max_tokens = tokens},
      {.positions = rotary});
  std::size_t unlike = 0;  // choices that differ from those of the keys as they came
  for (std::size_t t = 0; t < tokens; ++t) {
    static_cast<void>(feed(cache, shape, 1));
    const layer_rows query = rows_of(shape, 0, static_cast<position>(t), 1);
    for (std::size_t head = 0; head < shape.query_heads; ++head) {
      const std::vector<double> turned =
          kvkeep::detail::turned_row(rotary, frequencies, at, {&query.q[head * dim], dim});
      const auto best = [&](const auto& key_of) {
        std::vector<std::pair<double, std::uint32_t>> scores;
        for (std::size_t j = 0; j + window <= t; ++j) {
          const layer_rows row = rows_of(shape, 0, static_cast<position>(j), 1);
          const std::vector<float> key = key_of(&row.k[head / shape.group() * dim]);
          double dot = 0.0;
          for (std::size_t c = 0; c < dim; ++c) dot -= turned[c] * static_cast<double>(key[c]);
          scores.emplace_back(dot, static_cast<std::uint32_t>(j));
        }
        std::sort(scores.begin(), scores.end());
        numbers out;
        for (std::size_t k = 0; k < std::min(count, scores.size()); ++k) out.push_back(scores[k].second);
        return out;
      };
      const auto found = cache.memory().retrieved(0, head);
      const numbers mine(found.begin(), found.end());
      ASSERT_EQ(mine, best(kept<codec>)) << "token " << t << ", head " << head;
      unlike += mine != best([](const float* key) { return std::vector<float>(key, key + dim); }) ? 1U : 0U;
    }
  }
  if (std::is_same_v<codec, kvkeep::int4>) {
    EXPECT_GT(unlike, 0U) << "rounding matters";
  }
}

const unlimiformer some{.sinks = 2, .window = 8, .count = 6, .at = 5, .max_tokens = 200};

template <class Change>
unlimiformer with(const Change& change) {
  unlimiformer policy = some;
  change(policy);
  return policy;
}
const std::vector<unlimiformer> policies{some, with([](unlimiformer& p) { p.chooses = chosen_by::kv_head; }),
                                         with([](unlimiformer& p) { p.ceiling = 30; })};
const std::vector<kvkeep::position_encoding> encodings{kvkeep::rope{.theta = 100.0}, kvkeep::alibi{},
                                                       kvkeep::no_positions{}};

TEST(NearestKeysInACache, WorkersChangeNothing) {
  for (const unlimiformer& policy : policies) {
    for (const auto& encoding : encodings) {
      if (policy.ceiling && std::holds_alternative<kvkeep::no_positions>(encoding)) continue;
      kvkeep::thread_executor threads(3);
      auto alone = kvkeep::make_cache(shape, policy, {.positions = encoding});
      auto shared = kvkeep::make_cache(shape, policy, {.positions = encoding, .workers = 3});
      for (const std::size_t n : {30U, 1U, 17U, 1U, 40U}) {
        const position first = alone.next_position();
        layer_rows mine = rows_of(shape, 0, first, n);
        layer_rows theirs = mine;
        const auto attend = [&](auto& cache, layer_rows& rows, const kvkeep::executor_ref& executor) {
          auto step = cache.begin(n);
          step.attend(0, view(std::as_const(rows.q), n, 4, dim), view(std::as_const(rows.k), n, 2, dim),
                      view(std::as_const(rows.v), n, 2, dim), view(rows.out, n, 4, dim), executor);
          step.commit();
        };
        attend(alone, mine, {});
        attend(shared, theirs, threads);
        EXPECT_EQ(mine.out, theirs.out);
      }
    }
  }
}

// Where a stream begins is nothing to the distances in it: the same tokens, counted from elsewhere.
TEST(NearestKeysInACache, AStreamMayBeginAnywhere) {
  constexpr position elsewhere = 1000;
  for (const unlimiformer& policy : policies) {
    for (const auto& encoding : encodings) {
      if (policy.ceiling && std::holds_alternative<kvkeep::no_positions>(encoding)) continue;
      auto here = kvkeep::make_cache(shape, policy, {.positions = encoding});
      auto there = kvkeep::make_cache(shape, policy, {.positions = encoding, .first_position = elsewhere});
      for (const std::size_t n : {30U, 1U, 17U, 1U, 40U}) {
        layer_rows rows = rows_of(shape, 0, here.next_position(), n);
        std::vector<float> out(rows.out.size());
        auto one = here.begin(n);
        one.attend(0, view(std::as_const(rows.q), n, 4, dim), view(std::as_const(rows.k), n, 2, dim),
                   view(std::as_const(rows.v), n, 2, dim), view(rows.out, n, 4, dim));
        one.commit();
        auto other = there.begin(n);
        other.attend(0, view(std::as_const(rows.q), n, 4, dim), view(std::as_const(rows.k), n, 2, dim),
                     view(std::as_const(rows.v), n, 2, dim), view(out, n, 4, dim));
        other.commit();
        for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], rows.out[i], 2e-6);
        for (std::size_t chooser = 0; chooser < here.memory().choosers(); ++chooser) {
          const auto mine = here.memory().retrieved(0, chooser);
          const auto theirs = there.memory().retrieved(0, chooser);
          EXPECT_EQ(numbers(mine.begin(), mine.end()), numbers(theirs.begin(), theirs.end()));
        }
      }
      EXPECT_EQ(there.next_position(), elsewhere + 89);
    }
  }
}

TEST(NearestKeysInACache, AStepAllocatesNothing) {
  for (const unlimiformer& policy : policies) {
    for (const auto& encoding : encodings) {
      if (policy.ceiling && std::holds_alternative<kvkeep::no_positions>(encoding)) continue;
      auto cache = kvkeep::make_cache(shape, policy, {.positions = encoding});
      layer_rows rows = rows_of(shape, 0, 0, 20);
      const auto step_of = [&](std::size_t n) {
        auto step = cache.begin(n);
        step.attend(0, view(std::as_const(rows.q), n, 4, dim), view(std::as_const(rows.k), n, 2, dim),
                    view(std::as_const(rows.v), n, 2, dim), view(rows.out, n, 4, dim));
        step.commit();
      };
      const std::size_t before = allocations();
      for (const std::size_t n : {20U, 1U, 13U, 1U, 1U}) step_of(n);
      EXPECT_EQ(allocations(), before);
    }
  }
}

// Under ALiBi a key that is read at a distance loses the slope times it, and is still searched for without.
TEST(NearestKeysInACache, AlibiPutsTheDistanceOnTheScore) {
  constexpr std::size_t tokens = 50;
  const std::vector<float> slopes{0.5F, 0.25F, 0.125F, 0.03125F};
  for (const unlimiformer& policy : policies) {
    auto cache = kvkeep::make_cache(shape, policy, {.positions = kvkeep::alibi{.slopes = slopes}});
    for (std::size_t t = 0; t < tokens; ++t) {
      layer_rows rows = rows_of(shape, 0, static_cast<position>(t), 1);
      auto step = cache.begin(1);
      step.attend(0, view(std::as_const(rows.q), 1, 4, dim), view(std::as_const(rows.k), 1, 2, dim),
                  view(std::as_const(rows.v), 1, 2, dim), view(rows.out, 1, 4, dim));
      step.commit();
      for (std::size_t head = 0; head < 4; ++head) {
        const auto found = cache.memory().retrieved(0, head * cache.memory().choosers() / 4);
        std::vector<double> out(dim, 0.0);
        double total = 0.0;
        const auto read = [&](std::size_t j, std::size_t far) {
          const layer_rows row = rows_of(shape, 0, static_cast<position>(j), 1);
          double dot = 0.0;
          for (std::size_t c = 0; c < dim; ++c) {
            dot += static_cast<double>(rows.q[head * dim + c]) * static_cast<double>(row.k[head / 2 * dim + c]);
          }
          const double weight = std::exp(dot / std::sqrt(static_cast<double>(dim)) -
                                         static_cast<double>(slopes[head]) * static_cast<double>(far));
          for (std::size_t c = 0; c < dim; ++c) out[c] += weight * static_cast<double>(row.v[head / 2 * dim + c]);
          total += weight;
        };
        for (std::size_t j = 0; j <= t; ++j) {
          if (j + policy.window > t) {
            read(j, t - j);
          } else if (j < policy.sinks) {
            read(j, *policy.at);
          }
        }
        for (const std::uint32_t j : found)
          read(j, policy.ceiling ? std::min<std::size_t>(t - j, *policy.ceiling) : *policy.at);
        for (std::size_t c = 0; c < dim; ++c) ASSERT_NEAR(rows.out[head * dim + c], out[c] / total, 2e-6);
      }
    }
  }
}

}  // namespace
}  // namespace kvkeep_test
