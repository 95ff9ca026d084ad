// The kernel, and what it takes from the instruction set. Built once for each set of flags in CMakeLists.txt.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kvkeep/attention/attend.hpp"
#include "kvkeep/codec/float16.hpp"
#include "kvkeep/codec/int4.hpp"
#include "kvkeep/codec/int8.hpp"
#include "kvkeep/storage/kv_store.hpp"

namespace {

using namespace kvkeep;

// ---- what has no operator ------------------------------------------------------------------------------------------------

TEST(Simd, WidensEveryHalf) {
  for (std::uint32_t first = 0; first < 65536; first += detail::vec_width) {
    std::uint16_t bits[detail::vec_width];
    for (std::size_t i = 0; i < detail::vec_width; ++i) bits[i] = static_cast<std::uint16_t>((first + i) & 0xFFFFU);
    const auto halves = detail::load<detail::vec_half>(bits);
    const detail::vec f16_wide = detail::widen_f16(halves);
    const detail::vec bf16_wide = detail::widen_bf16(halves);
    for (std::size_t i = 0; i < detail::vec_width; ++i) {
      const std::uint32_t sign = (bits[i] & 0x8000U) << 16U;
      const int exponent = bits[i] >> 10U & 0x1F;
      const int mantissa = bits[i] & 0x3FF;
      const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                       : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
      const float found = f16_wide[i];
      EXPECT_EQ(std::bit_cast<std::uint32_t>(found) & 0x80000000U, sign) << bits[i];
      if (exponent == 31) {
        EXPECT_TRUE(mantissa == 0 ? std::isinf(found) : std::isnan(found)) << bits[i];
      } else {
        EXPECT_EQ(std::fabs(found), size) << bits[i];
      }
      const float bf16_found = bf16_wide[i];
      EXPECT_EQ(std::bit_cast<std::uint32_t>(bf16_found), std::uint32_t{bits[i]} << 16U);
    }
  }
}

TEST(Simd, WidensEveryByte) {
  for (int first = -128; first < 128; first += static_cast<int>(detail::vec_width)) {
    std::int8_t bytes[detail::vec_width];
    for (std::size_t i = 0; i < detail::vec_width; ++i)
      bytes[i] = static_cast<std::int8_t>(first + static_cast<int>(i));
    const detail::vec_int wide = detail::widen_i8(detail::load<detail::vec_byte>(bytes));
    for (std::size_t i = 0; i < detail::vec_width; ++i) EXPECT_EQ(wide[i], bytes[i]);
  }
}

TEST(Simd, MultipliesBytesExactly) {
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 2000; ++repeat) {
    std::uint8_t a[4 * detail::vec_width];
    std::int8_t b[4 * detail::vec_width];
    for (std::size_t i = 0; i < 4 * detail::vec_width; ++i) {
      const bool extreme = repeat % 3 == 0;  // sums of pairs beyond 16 bits
      a[i] = static_cast<std::uint8_t>(extreme ? 255 : random() % 256);
      b[i] =
          static_cast<std::int8_t>(extreme ? (repeat % 2 == 0 ? -128 : 127) : static_cast<int>(random() % 256) - 128);
    }
    const detail::vec_int found =
        detail::dot_bytes(detail::splat(-5), detail::load<detail::vec_int>(a), detail::load<detail::vec_int>(b));
    for (std::size_t i = 0; i < detail::vec_width; ++i) {
      int sum = -5;
      for (std::size_t j = 4 * i; j < 4 * i + 4; ++j) sum += int{a[j]} * int{b[j]};
      EXPECT_EQ(found[i], sum);
    }
  }
}

TEST(Simd, StoresWhatIsChosen) {
  std::uint32_t numbers[detail::vec_width];
  for (std::size_t i = 0; i < detail::vec_width; ++i) numbers[i] = static_cast<std::uint32_t>(100 + i);
  const auto x = detail::load<detail::vec_int>(numbers);
  for (std::uint32_t mask = 0; mask < (std::uint64_t{1} << detail::vec_width) && mask < 65536; mask += 1 + mask / 64) {
    std::uint32_t out[2 * detail::vec_width] = {};
    const std::size_t count = detail::store_chosen(out, x, mask);
    std::vector<std::uint32_t> expected;
    for (std::size_t i = 0; i < detail::vec_width; ++i) {
      if ((mask >> i & 1U) != 0) expected.push_back(numbers[i]);
    }
    EXPECT_EQ(std::vector<std::uint32_t>(out, out + count), expected);
    const detail::vec_int lanes = detail::lanes_of(mask);
    for (std::size_t i = 0; i < detail::vec_width; ++i) EXPECT_EQ(lanes[i], (mask >> i & 1U) != 0 ? -1 : 0);
  }
}

TEST(Exp, IsAsExactAsItSays) {
  double worst = 0.0;
  for (float x = 0.0F; x > -87.0F; x -= 0.00137F) {
    float lanes[detail::vec_width];
    for (float& lane : lanes) lane = x;
    const detail::vec found = detail::exp_below(detail::load(lanes));
    const double truth = std::exp(static_cast<double>(x));
    for (const float one : {found[0], found[detail::vec_width - 1], detail::exp_below(x)}) {
      worst = std::max(worst, std::fabs(static_cast<double>(one) - truth) / truth);
    }
  }
  RecordProperty("worst_relative_error", std::to_string(worst));
  EXPECT_LT(worst, 2e-7);
}

// ---- attention over what is stored ------------------------------------------------------------------------------------------

template <class KeyCodec, class ValueCodec>
struct codecs {
  using key = KeyCodec;
  using value = ValueCodec;
};

template <class C>
class Kernel : public testing::Test {};
using codec_pairs = testing::Types<codecs<f32, f32>, codecs<f16, f16>, codecs<bf16, bf16>, codecs<int8, int8>,
                                   codecs<int4, int4>, codecs<int8, f16>, codecs<f32, int4>>;
TYPED_TEST_SUITE(Kernel, codec_pairs);

/// A query as the kernel sees it: rounded to integers where keys are integers.
template <class KeyCodec>
std::vector<double> seen(const std::vector<float>& query) {
  std::vector<double> out(query.begin(), query.end());
  if constexpr (KeyCodec::integer) {
    for (std::size_t g = 0; g < query.size(); g += 32) {
      float most = 0.0F;
      for (std::size_t c = g; c < g + 32; ++c) most = std::max(most, std::fabs(query[c]));
      for (std::size_t c = g; c < g + 32; ++c) {
        const float quant = most > 0.0F ? std::nearbyint(query[c] * (127.0F / most)) : 0.0F;
        out[c] = static_cast<double>(quant) * static_cast<double>(most / 127.0F);
      }
    }
  }
  return out;
}

/// A lane with random rows in every slot, decoded beside it, and queries.
template <class KeyCodec, class ValueCodec>
struct lane_fixture {
  using lane = lane_view<KeyCodec, ValueCodec>;

  std::size_t dim;
  std::size_t group;
  std::size_t blocks;
  std::mt19937 random;
  detail::arena memory;
  kv_store<KeyCodec, ValueCodec> store;
  std::vector<std::vector<float>> keys;    // [slots][dim], decoded
  std::vector<std::vector<float>> values;  // [slots][dim], decoded

  lane_fixture(std::size_t d, std::size_t g, std::size_t b, unsigned seed)
      : dim(d), group(g), blocks(b), random(seed), memory(b * 16 * (d + 64) * 8 + 4096) {
    store.lay_out(memory, 1, blocks, dim);
    for (std::size_t s = 0; s < blocks * 16; ++s) {
      store.write(0, to_slot(s), row(), row());
      keys.emplace_back(dim);
      values.emplace_back(dim);
      store.view(0).copy_key(to_slot(s), keys.back());
      store.view(0).copy_value(to_slot(s), values.back());
    }
  }
  std::vector<float> row() {
    std::normal_distribution<float> normal;
    std::vector<float> out(dim);
    for (float& x : out) x = normal(random);
    return out;
  }
  /// Fills a slot with NaN: nobody may read it.
  void poison(std::size_t s) {
    const std::vector<float> nan(dim, std::numeric_limits<float>::quiet_NaN());
    store.write(0, to_slot(s), nan, nan);
  }
};

/// Attention of one row in double over the slots whose bit is set.
struct truth {
  std::vector<double> output;
  double log_sum_exp = 0.0;
};
template <class Score>
truth attention_of(const std::vector<key_span>& spans, const std::vector<std::vector<float>>& values, std::size_t dim,
                   const Score& score) {
  truth out{std::vector<double>(dim, 0.0)};
  double top = -1e300;
  double sum = 0.0;
  for (const key_span& s : spans) {
    for (std::size_t r = 0; r < 16; ++r) {
      if ((s.mask >> r & 1U) != 0) top = std::max(top, score(s.block * 16 + r));
    }
  }
  for (const key_span& s : spans) {
    for (std::size_t r = 0; r < 16; ++r) {
      if ((s.mask >> r & 1U) == 0) continue;
      const double weight = std::exp(score(s.block * 16 + r) - top);
      sum += weight;
      for (std::size_t c = 0; c < dim; ++c) {
        out.output[c] += weight * static_cast<double>(values[s.block * 16 + r][c]);
      }
    }
  }
  for (double& x : out.output) x /= sum;
  out.log_sum_exp = top + std::log(sum);
  return out;
}

double dot(const std::vector<double>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (std::size_t c = 0; c < a.size(); ++c) sum += a[c] * static_cast<double>(b[c]);
  return sum;
}

/// States, accumulators and working memory for some rows.
template <class KeyCodec, class ValueCodec>
struct workplace {
  std::vector<float> accumulated;
  std::vector<softmax_state> states;
  detail::arena memory;
  attend_scratch scratch;
  workplace(std::size_t queries, std::size_t group, std::size_t dim, bool turned, std::size_t lanes = 1)
      : accumulated(lanes * queries * group * dim), states(lanes * queries * group) {
    for (std::size_t i = 0; i < states.size(); ++i) {
      states[i].accumulated = std::span<float>(accumulated).subspan(i * dim, dim);
    }
    detail::arena ruler;
    scratch.lay_out<KeyCodec, ValueCodec>(ruler, queries, group, dim, turned);
    memory = detail::arena(ruler.used());
    scratch.lay_out<KeyCodec, ValueCodec>(memory, queries, group, dim, turned);
  }
};

/// What outputs may be off, values being a few units: where weights become 16-bit integers, their steps of 3e-5 add up at random.
template <class ValueCodec>
constexpr double tolerance = ValueCodec::integer&& detail::multiplies_bytes ? 4e-4 : 5e-6;

void expect_same(const softmax_state& state, const truth& expected, double tolerance, const std::string& what) {
  std::vector<float> out(expected.output.size());
  state.finish(out);
  double worst = 0.0;
  for (std::size_t c = 0; c < out.size(); ++c) {
    const double off = std::fabs(static_cast<double>(out[c]) - expected.output[c]);
    worst = off <= worst ? worst : off;  // also NaN
  }
  EXPECT_LT(worst, tolerance) << what;
  EXPECT_NEAR(static_cast<double>(state.log_sum_exp()), expected.log_sum_exp, 5e-6) << what;
}

TYPED_TEST(Kernel, AttendsToWhatIsStored) {
  using key = typename TypeParam::key;
  using value = typename TypeParam::value;
  constexpr bool groups_of_32 = key::integer || value::integer;
  std::mt19937 random(7);
  for (const std::size_t dim : {32U, 40U, 64U, 80U, 96U, 112U, 128U, 192U, 256U, 8U, 1U}) {
    if (groups_of_32 && dim % 32 != 0) continue;
    for (const std::size_t group : {1U, 2U, 3U, 4U, 8U, 16U}) {
      const std::size_t queries = std::vector<std::size_t>{1, 1, 2, 5, 20}[random() % 5];
      lane_fixture<key, value> f(dim, group, 1 + random() % 20, static_cast<unsigned>(dim * 100 + group));
      const std::string what = std::to_string(dim) + " x " + std::to_string(group) + " x " + std::to_string(queries) +
                               " over " + std::to_string(f.blocks) + " blocks";
      // The first block is whole for all, the others are read as each query likes; one slot of each is read by nobody.
      std::vector<std::vector<key_span>> spans(queries);
      std::vector<std::uint32_t> nobody(f.blocks, 0);
      for (std::uint32_t b = 1; b < f.blocks; ++b) {
        nobody[b] = 1U << random() % 16;
        f.poison(b * 16 + static_cast<std::size_t>(std::countr_zero(nobody[b])));
      }
      for (auto& mine : spans) {
        mine.push_back({0, 0, 0xFFFF});
        for (std::uint32_t b = 1; b < f.blocks; ++b) {
          const std::uint32_t mask = (random() % 3 == 0 ? random() : 0xFFFFU) & 0xFFFFU & ~nobody[b];
          if (mask != 0 && random() % 8 != 0) mine.push_back({0, b, mask});
        }
      }
      score_options options;
      options.softcap = random() % 4 == 0 ? 3.0F : 0.0F;
      std::vector<float> slopes(group, 0.0F);
      std::vector<position> away(f.blocks * 16);
      for (position& a : away) a = static_cast<position>(random() % 50);
      if (queries == 1 && random() % 2 == 0) {
        for (float& s : slopes) s = 0.1F * static_cast<float>(random() % 5);
        options.slopes = slopes;
      }
      workplace<key, value> work(queries, group, dim, false);
      std::vector<std::vector<float>> turned(queries);
      std::vector<query_run> runs;
      for (std::size_t q = 0; q < queries; ++q) {
        for (std::size_t g = 0; g < group; ++g) {
          for (const float x : f.row()) turned[q].push_back(x / std::sqrt(static_cast<float>(dim)));
        }
        for (std::size_t g = 0; g < group; ++g) work.states[q * group + g].clear();
        runs.push_back(
            {spans[q], turned[q].data(), std::span<softmax_state>(work.states).subspan(q * group, group), away});
      }
      attend(f.store.view(0), runs, options, work.scratch);
      for (std::size_t row = 0; row < queries * group; ++row) {
        const std::size_t g = row % group;
        const auto first = turned[row / group].begin() + static_cast<std::ptrdiff_t>(g * dim);
        const auto query = seen<key>({first, first + static_cast<std::ptrdiff_t>(dim)});
        const auto expected = attention_of(spans[row / group], f.values, dim, [&](std::size_t s) {
          double score = dot(query, f.keys[s]);
          if (options.softcap > 0.0F) score = 3.0 * std::tanh(score / 3.0);
          return score - static_cast<double>(slopes[g]) * static_cast<double>(away[s]);
        });
        expect_same(work.states[row], expected, tolerance<value>, what);
      }
    }
  }
}

TYPED_TEST(Kernel, TurnsRawKeysAsItReadsThem) {
  using key = typename TypeParam::key;
  using value = typename TypeParam::value;
  for (const bool half : {true, false}) {
    for (const std::size_t dim : {32U, 64U, 96U, 128U, 256U}) {
      const std::size_t lanes = 3;
      const std::size_t group = dim == 64 ? 3 : 4;
      const std::size_t pairs = dim == 96 ? 20 : dim / 2;  // 96: some components are not turned
      lane_fixture<key, value> first(dim, group, 9, static_cast<unsigned>(dim));
      lane_fixture<key, value> second(dim, group, 9, static_cast<unsigned>(dim) + 1);
      lane_fixture<key, value> third(dim, group, 9, static_cast<unsigned>(dim) + 2);
      lane_fixture<key, value>* const all[] = {&first, &second, &third};
      std::vector<key_span> spans;
      for (std::uint32_t b = 0; b < 9; ++b) spans.push_back({0, b, b % 4 == 3 ? 0x7BDEU : 0xFFFFU});
      for (auto* f : all) f->poison(3 * 16);
      std::vector<double> angle(first.blocks * 16 * pairs);
      std::vector<float> angles(first.blocks * pairs * 2 * 16);
      for (std::size_t s = 0; s < first.blocks * 16; ++s) {
        const double distance = static_cast<double>((s * 7919) % 4000);
        for (std::size_t j = 0; j < pairs; ++j) {
          const double a = distance * std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(dim));
          angle[s * pairs + j] = a;
          angles[((s / 16 * pairs + j) * 2) * 16 + s % 16] = static_cast<float>(std::cos(a));
          angles[((s / 16 * pairs + j) * 2 + 1) * 16 + s % 16] = static_cast<float>(std::sin(a));
        }
      }
      const key_turning turning{angles.data(), pairs, half ? 1U : 2U, half ? pairs : 1U};
      workplace<key, value> work(1, group, dim, true, lanes);
      std::vector<std::vector<float>> queries(lanes);
      std::vector<query_run> runs;
      std::vector<lane_view<key, value>> views;
      for (std::size_t l = 0; l < lanes; ++l) {
        for (std::size_t g = 0; g < group; ++g) {
          for (const float x : first.row()) queries[l].push_back(x / std::sqrt(static_cast<float>(dim)));
        }
        for (std::size_t g = 0; g < group; ++g) work.states[l * group + g].clear();
        runs.push_back({spans, queries[l].data(), std::span<softmax_state>(work.states).subspan(l * group, group), {}});
        views.push_back(all[l]->store.view(0));
      }
      attend_turned(std::span<const lane_view<key, value>>(views), std::span<const query_run>(runs), turning, {},
                    work.scratch);
      for (std::size_t row = 0; row < lanes * group; ++row) {
        const auto& f = *all[row / group];
        const auto begin = queries[row / group].begin() + static_cast<std::ptrdiff_t>(row % group * dim);
        const std::vector<double> query(begin, begin + static_cast<std::ptrdiff_t>(dim));
        const auto expected = attention_of(spans, f.values, dim, [&](std::size_t s) {
          std::vector<float> k = f.keys[s];
          double score = 0.0;
          for (std::size_t j = 0; j < pairs; ++j) {
            const std::size_t a = half ? j : 2 * j;
            const std::size_t b = half ? j + pairs : 2 * j + 1;
            const double c = std::cos(angle[s * pairs + j]);
            const double n = std::sin(angle[s * pairs + j]);
            score += query[a] * (static_cast<double>(k[a]) * c + static_cast<double>(k[b]) * n);
            score += query[b] * (static_cast<double>(k[b]) * c - static_cast<double>(k[a]) * n);
          }
          for (std::size_t i = 2 * pairs; i < dim; ++i) score += query[i] * static_cast<double>(k[i]);
          return score;
        });
        expect_same(work.states[row], expected, tolerance<value>,
                    std::to_string(dim) + (half ? " half" : " interleaved"));
      }
    }
  }
}

TYPED_TEST(Kernel, SpansOfNoRowsAreNothing) {
  using key = typename TypeParam::key;
  using value = typename TypeParam::value;
  const std::size_t dim = 64;
  lane_fixture<key, value> f(dim, 2, 20, 3);
  for (const std::size_t queries : {1U, 6U}) {
    workplace<key, value> work(queries, 2, dim, false);
    std::vector<key_span> spans;
    for (std::uint32_t b = 0; b < 20; ++b) spans.push_back({0, b, 0});
    const auto attended = [&] {
      std::vector<std::vector<float>> rows(queries);
      std::vector<query_run> runs;
      for (std::size_t q = 0; q < queries; ++q) {
        for (std::size_t g = 0; g < 2; ++g) {
          for (const float x : f.row()) rows[q].push_back(x / 8);
          work.states[q * 2 + g].clear();
        }
        runs.push_back({spans, rows[q].data(), std::span<softmax_state>(work.states).subspan(q * 2, 2), {}});
      }
      attend(f.store.view(0), std::span<const query_run>(runs), {}, work.scratch);
      std::vector<float> sums;
      for (std::size_t i = 0; i < queries * 2; ++i) sums.push_back(work.states[i].sum);
      return sums;
    };
    EXPECT_EQ(attended(), std::vector<float>(queries * 2, 0.0F));
    spans[19].mask = 0xFFFF;
    for (const float sum : attended()) EXPECT_GT(sum, 0.0F);
  }
}

TYPED_TEST(Kernel, RoundsWeightsOfIntegerValuesWithinTheirBound) {
  using key = typename TypeParam::key;
  using value = typename TypeParam::value;
  if constexpr (value::integer && detail::multiplies_bytes) {
    const std::size_t dim = 128;
    const std::size_t blocks = detail::tile_blocks<key>(dim);  // one tile
    double worst = 0.0;
    for (unsigned repeat = 0; repeat < 20; ++repeat) {
      lane_fixture<key, value> f(dim, 1, blocks, 50 + repeat);
      workplace<key, value> work(1, 1, dim, false);
      std::vector<float> query = f.row();
      for (float& x : query) x *= repeat % 2 == 0 ? 0.02F : 0.2F;  // weights alike, and a few that outweigh the rest
      const std::vector<double> rounded = seen<key>(query);
      std::vector<key_span> spans;
      for (std::uint32_t b = 0; b < blocks; ++b) spans.push_back({0, b, 0xFFFF});
      const query_run run{spans, query.data(), work.states, {}};
      work.states[0].clear();
      attend(f.store.view(0), {&run, 1}, {}, work.scratch);
      const truth exact = attention_of(spans, f.values, dim, [&](std::size_t s) { return dot(rounded, f.keys[s]); });
      for (std::size_t c = 0; c < dim; ++c) {
        double largest = 0.0;  // of final weights times the largest magnitude in the value's group
        double top = 0.0;
        for (std::size_t s = 0; s < blocks * 16; ++s) {
          double in_group = 0.0;
          for (std::size_t i = c / 32 * 32; i < c / 32 * 32 + 32; ++i) {
            in_group = std::max(in_group, std::fabs(static_cast<double>(f.values[s][i])));
          }
          largest = std::max(largest, in_group * std::exp(dot(rounded, f.keys[s]) - exact.log_sum_exp));
          top = std::max(top, in_group);
        }
        const double bound = static_cast<double>(blocks * 16) / 65024.0 * largest + 5e-6 * top;
        const double ours = static_cast<double>(work.states[0].accumulated[c] / work.states[0].sum);
        EXPECT_LE(std::fabs(ours - exact.output[c]), bound);
        worst = std::max(worst, std::fabs(ours - exact.output[c]) / bound);
      }
    }
    EXPECT_GT(worst, 0.02) << "the bound says nothing";
  }
}

TYPED_TEST(Kernel, RoundsTheQueryWithinItsBound) {
  using key = typename TypeParam::key;
  using value = typename TypeParam::value;
  if constexpr (key::integer) {
    const std::size_t dim = 128;
    lane_fixture<key, value> f(dim, 1, 1, 3);
    workplace<key, value> work(1, 1, dim, false);
    double worst = 0.0;
    for (int repeat = 0; repeat < 500; ++repeat) {
      std::vector<float> query = f.row();
      if (repeat % 2 == 0) query[static_cast<std::size_t>(repeat) % dim] *= 50.0F;  // a heavy tail
      const std::size_t s = static_cast<std::size_t>(repeat) % 16;
      const std::vector<key_span> spans{{0, 0, 1U << s}};
      const query_run run{spans, query.data(), work.states, {}};
      work.states[0].clear();
      attend(f.store.view(0), {&run, 1}, {}, work.scratch);
      double bound = 1e-5;
      for (std::size_t g = 0; g < dim; g += 32) {
        float most = 0.0F;
        double sum = 0.0;
        for (std::size_t c = g; c < g + 32; ++c) {
          most = std::max(most, std::fabs(query[c]));
          sum += std::fabs(static_cast<double>(f.keys[s][c]));
        }
        bound += static_cast<double>(most) / 254.0 * sum;
      }
      const double exact = dot(std::vector<double>(query.begin(), query.end()), f.keys[s]);
      const double error = std::fabs(static_cast<double>(work.states[0].max) - exact);
      EXPECT_LE(error, bound);
      worst = std::max(worst, error / bound);
    }
    EXPECT_GT(worst, 0.05) << "the bound says nothing";
    // A component that is not finite makes the scores NaN; a zero query scores zero.
    std::vector<float> query(dim, 0.0F);
    const std::vector<key_span> spans{{0, 0, 0xFFFF}};
    const query_run run{spans, query.data(), work.states, {}};
    work.states[0].clear();
    attend(f.store.view(0), {&run, 1}, {}, work.scratch);
    EXPECT_EQ(work.states[0].max, 0.0F);
    EXPECT_EQ(work.states[0].sum, 16.0F);
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      query[70] = bad;
      work.states[0].clear();
      attend(f.store.view(0), {&run, 1}, {}, work.scratch);
      EXPECT_TRUE(std::isnan(work.states[0].sum));
    }
  }
}

}  // namespace
