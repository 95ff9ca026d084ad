// What searches of stored rows take from the instruction set, against plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kvkeep/codec/float16.hpp"
#include "kvkeep/codec/int4.hpp"
#include "kvkeep/codec/int8.hpp"
#include "kvkeep/memory/hidden_state_rows.hpp"
#include "kvkeep/memory/key_scan.hpp"
#include "kvkeep/storage/kv_store.hpp"

namespace {

using namespace kvkeep;
using floats = std::vector<float>;

floats random_floats(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  floats out(n);
  for (float& x : out) x = uniform(random);
  return out;
}

/// The dot product, and the sum of the magnitudes of its terms, which bounds its rounding.
struct exact_dot {
  double value = 0.0;
  double size = 0.0;
};
exact_dot dot(const float* a, const float* b, std::size_t n) {
  exact_dot out;
  for (std::size_t i = 0; i < n; ++i) {
    out.value += double{a[i]} * double{b[i]};
    out.size += std::fabs(double{a[i]} * double{b[i]});
  }
  return out;
}

template <class Codec>
class ScanKeys : public testing::Test {};
using codecs = testing::Types<f32, f16, bf16, int8, int4>;
TYPED_TEST_SUITE(ScanKeys, codecs);

// Every key of a range once, in order, for any number of queries and of blocks, from any block on.
TYPED_TEST(ScanKeys, ScoresEveryKeyOfARange) {
  using codec = TypeParam;
  constexpr std::size_t dim = 64;
  constexpr std::size_t blocks = 11;
  const std::size_t block_bytes = codec::key_block_bytes(dim);
  std::vector<std::byte> memory(blocks * block_bytes);
  const floats rows = random_floats(blocks * block_tokens * dim, 1);
  for (std::size_t i = 0; i < blocks * block_tokens; ++i) {
    codec::write_key(&memory[i / block_tokens * block_bytes], i % block_tokens, {&rows[i * dim], dim});
  }
  const lane_view<codec, f32> lane(memory.data(), nullptr, dim);
  for (const std::size_t queries : {1U, 2U, 3U, 4U, 7U, 8U}) {
    const floats query = random_floats(queries * dim, static_cast<unsigned>(queries));
    for (const std::size_t first : {0U, 1U, 3U}) {
      for (std::size_t count = 0; first + count <= blocks; ++count) {
        floats scores(queries * detail::scanned_keys);
        std::size_t next = first;
        detail::scan_keys(lane, first, count, query, queries, scores.data(), [&](std::size_t block, std::size_t some) {
          ASSERT_EQ(block, next);
          ASSERT_LE(some, detail::scanned_blocks);
          next += some;
          for (std::size_t q = 0; q < queries; ++q) {
            for (std::size_t i = 0; i < some * block_tokens; ++i) {
              float key[dim];
              lane.copy_key(to_slot(block * block_tokens + i), key);
              const exact_dot expected = dot(&query[q * dim], key, dim);
              ASSERT_NEAR(scores[q * detail::scanned_keys + i], expected.value, 1e-5 * expected.size)
                  << queries << " queries, block " << block << ", key " << i;
            }
          }
        });
        ASSERT_EQ(next, first + count);
      }
    }
  }
}

// A key's score is the same bit for bit, whatever is scored beside it: what is filed later keeps its rank.
TYPED_TEST(ScanKeys, AScoreDoesNotDependOnItsNeighbours) {
  using codec = TypeParam;
  constexpr std::size_t dim = 96;
  constexpr std::size_t blocks = 9;
  const std::size_t block_bytes = codec::key_block_bytes(dim);
  std::vector<std::byte> memory(blocks * block_bytes);
  const floats rows = random_floats(blocks * block_tokens * dim, 2);
  for (std::size_t i = 0; i < blocks * block_tokens; ++i) {
    codec::write_key(&memory[i / block_tokens * block_bytes], i % block_tokens, {&rows[i * dim], dim});
  }
  const lane_view<codec, f32> lane(memory.data(), nullptr, dim);
  const floats query = random_floats(4 * dim, 3);
  floats scores(4 * detail::scanned_keys);
  floats alone(detail::scanned_keys);
  detail::scan_keys(lane, 0, blocks, query, 4, scores.data(), [&](std::size_t block, std::size_t count) {
    for (std::size_t b = 0; b < count; ++b) {
      for (std::size_t q = 0; q < 4; ++q) {
        detail::scan_keys(lane, block + b, 1, std::span(query).subspan(q * dim, dim), 1, alone.data(),
                          [](std::size_t, std::size_t) {});
        ASSERT_EQ(std::memcmp(alone.data(), &scores[q * detail::scanned_keys + b * block_tokens],
                              block_tokens * sizeof(float)),
                  0);
      }
    }
  });
}

TEST(ScoreRows, OfAnyRangeAreDotProducts) {
  constexpr std::size_t stride = 80;
  constexpr std::size_t rows = 53;
  const floats stored = random_floats(rows * stride, 4);
  for (const std::size_t count : {1U, 3U, 4U, 5U, 8U, 9U}) {
    const floats vectors = random_floats(detail::round_up(count, detail::searched_together) * stride, 5);
    for (const std::size_t first : {0U, 7U, 16U}) {
      for (const std::size_t last : {17U, 32U, 53U}) {
        constexpr float untouched = 99.0F;
        floats scores(count * 64, untouched);
        detail::score_rows(stored.data(), stride, first, last, vectors.data(), count, scores.data(), 64);
        for (std::size_t v = 0; v < count; ++v) {
          for (std::size_t r = 0; r < 64; ++r) {
            if (r < first || r >= last) {
              ASSERT_EQ(scores[v * 64 + r], untouched);
              continue;
            }
            const exact_dot expected = dot(&stored[r * stride], &vectors[v * stride], stride);
            ASSERT_NEAR(scores[v * 64 + r], expected.value, 1e-5 * expected.size);
          }
        }
      }
    }
  }
}

TEST(ScoreRows, DoNotDependOnTheirPlace) {
  constexpr std::size_t stride = 48;
  constexpr std::size_t rows = 40;
  const floats row = random_floats(stride, 6);
  floats stored;
  for (std::size_t i = 0; i < rows; ++i) stored.insert(stored.end(), row.begin(), row.end());
  floats vectors;
  const floats vector = random_floats(stride, 7);
  for (std::size_t i = 0; i < 8; ++i) vectors.insert(vectors.end(), vector.begin(), vector.end());
  floats scores(8 * rows);
  detail::score_rows(stored.data(), stride, 0, rows, vectors.data(), 7, scores.data(), rows);
  for (std::size_t i = 1; i < 7 * rows; ++i) ASSERT_EQ(scores[i], scores[0]) << i;
}

TEST(AddRows, AddsWeightedRows) {
  constexpr std::size_t stride = 100;
  const floats rows = random_floats(20 * stride, 8);
  const floats weights = random_floats(20, 9);
  for (const std::size_t length : {1U, 4U, 15U, 16U, 17U, 33U, 100U}) {
    for (std::size_t count = 0; count <= 20; ++count) {
      floats out = random_floats(stride, 10);
      const floats before = out;
      detail::add_rows(
          out.data(), length, count, [&](std::size_t i) { return weights[i]; },
          [&](std::size_t i) { return &rows[i * stride]; });
      for (std::size_t c = 0; c < stride; ++c) {
        double expected = before[c];
        for (std::size_t i = 0; c < length && i < count; ++i)
          expected += double{weights[i]} * double{rows[i * stride + c]};
        ASSERT_NEAR(out[c], expected, c < length ? 2e-6 * (1.0 + static_cast<double>(count)) : 0.0);
      }
    }
  }
}

}  // namespace
