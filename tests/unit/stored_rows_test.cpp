// A row is encoded once: however many tokens were dropped and rows moved since, the stored bits are those that the codec made
// of the row when it was appended. Export of rows by a cache, and its errors.
#include <gtest/gtest.h>

#include "../support/codecs.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::position;

constexpr kvkeep::model_shape shape{1, 2, 2, 64};
constexpr std::size_t max_step = 60;

/// A stored key and value.
struct token_bytes {
  std::vector<std::byte> key;
  std::vector<std::byte> value;
  bool operator==(const token_bytes&) const = default;
};

/// What the codecs make of the row that a cache of floats stores.
template <class Codecs, class Cache>
token_bytes encoded(const Cache& floats, std::size_t kv_head, position at) {
  std::vector<float> key(shape.head_dim);
  std::vector<float> value(shape.head_dim);
  floats.read(0, kv_head, at, key, value);
  return {encoded_key<typename Codecs::key>(key), encoded_value<typename Codecs::value>(value)};
}

/// A planner and a store of rows: an engine that attends with kernels of its own.
template <class Codecs, class Policy>
class engine {
 public:
  engine(const Policy& policy, const kvkeep::planner_options& options)
      : plan_(kvkeep::make_planner(shape, policy, options)), memory_(1U << 20U) {
    store_.lay_out(memory_, shape.kv_heads, plan_.planned_blocks(), shape.head_dim);
  }
  /// Appends n tokens of which `count` are committed, with the rows that `row` writes: row(t, kv_head, key, value).
  template <class Row>
  void step(std::size_t n, std::size_t count, const Row& row) {
    plan_.begin(n);
    std::vector<float> key(shape.head_dim);
    std::vector<float> value(shape.head_dim);
    for (std::size_t h = 0; h < shape.kv_heads; ++h) {
      for (std::size_t t = 0; t < n; ++t) {
        row(t, h, std::span<float>(key), std::span<float>(value));
        store_.write(h, plan_.new_slots(0)[t], key, value);
      }
    }
    plan_.commit(count);
    if (count > 0) follow();
  }
  void erase(position first, position last) {
    plan_.erase(first, last);
    follow();
  }
  [[nodiscard]] std::vector<position> held() const { return plan_.held(); }
  [[nodiscard]] std::size_t moves() const { return moves_; }
  [[nodiscard]] token_bytes stored(std::size_t kv_head, std::size_t i) const {
    token_bytes out{std::vector<std::byte>(Codecs::key::row_bytes(shape.head_dim)),
                    std::vector<std::byte>(Codecs::value::row_bytes(shape.head_dim))};
    store_.export_row(kv_head, plan_.held_slots()[i], out.key, out.value);
    return out;
  }

 private:
  void follow() {
    for (const kvkeep::token_move& m : plan_.last().moves) {
      ++moves_;
      for (std::size_t h = 0; h < shape.kv_heads; ++h) store_.move(h, m.from, m.to);
    }
  }

  kvkeep::planner<Policy> plan_;
  kvkeep::detail::arena memory_;
  kvkeep::kv_store<typename Codecs::key, typename Codecs::value> store_;
  std::size_t moves_ = 0;
};

/// Random steps, partial commits, aborts and erasures; calls f() after each. feed(n, count, salt) takes a step.
template <class Feed, class Erase, class F>
void random_steps(std::uint64_t seed, std::size_t steps, const Feed& feed, const Erase& erase, const F& f) {
  dice random(seed);
  position next = 0;
  for (std::size_t i = 0; i < steps; ++i) {
    const std::size_t n = random.between(1, random.chance(0.7) ? 9 : max_step);
    const std::size_t count = random.chance(0.75) ? n : random.between(0, n);
    feed(next, n, count, random.next());
    next += static_cast<position>(count);
    if (random.chance(0.15)) {
      const position last = std::max<position>(0, next - static_cast<position>(random.between(0, 25)));
      erase(std::max<position>(0, last - static_cast<position>(random.between(1, 12))), last);
    }
    f();
    if (testing::Test::HasFailure()) return;
  }
}

/// Feeds n tokens of which `count` are committed, attending as every cache must.
template <class Cache>
void feed_part(Cache& cache, position at, std::size_t n, std::size_t count, std::uint64_t salt) {
  auto step = cache.begin(n);
  attend_all(step, shape, at, salt);
  step.commit(count);
}

template <class Codecs, class Policy>
void encodes_once(const Policy& policy) {
  const kvkeep::cache_options options{.positions = kvkeep::rope{.theta = 100.0}, .max_step = max_step};
  // What is encoded: the rows, rotated or not, as a cache of floats has them.
  auto floats = kvkeep::make_cache(shape, policy, options);
  engine<Codecs, Policy> mine(policy, {.max_step = max_step});
  auto cache = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
  std::map<std::pair<std::size_t, position>, token_bytes> appended;

  random_steps(
      11, 500,
      [&](position at, std::size_t n, std::size_t count, std::uint64_t salt) {
        feed_part(floats, at, n, count, salt);
        feed_part(cache, at, n, count, salt);
        const std::vector<position> held = floats.held();
        mine.step(n, count, [&](std::size_t t, std::size_t h, std::span<float> key, std::span<float> value) {
          const position p = at + static_cast<position>(t);
          if (t < count && std::find(held.begin(), held.end(), p) != held.end()) {
            floats.read(0, h, p, key, value);
          } else {  // a row that is dropped with the step
            std::fill(key.begin(), key.end(), 123.0F);
            std::fill(value.begin(), value.end(), NAN);
          }
        });
        for (const position p : held) {
          for (std::size_t h = 0; p >= at && h < shape.kv_heads; ++h) {
            appended[{h, p}] = encoded<Codecs>(floats, h, p);
          }
        }
      },
      [&](position first, position last) {
        floats.erase(first, last);
        mine.erase(first, last);
        cache.erase(first, last);
      },
      [&] {
        const std::vector<position> held = floats.held();
        ASSERT_EQ(mine.held(), held);
        for (std::size_t h = 0; h < shape.kv_heads; ++h) {
          for (std::size_t i = 0; i < held.size(); ++i) {
            const token_bytes& expected = appended.at({h, held[i]});
            ASSERT_EQ(mine.stored(h, i), expected) << "head " << h << ", token " << held[i];
            token_bytes here{std::vector<std::byte>(expected.key.size()),
                             std::vector<std::byte>(expected.value.size())};
            cache.export_row(0, h, held[i], here.key, here.value);
            ASSERT_EQ(here, expected) << "head " << h << ", token " << held[i] << " of the cache";
          }
        }
      });
  EXPECT_GT(floats.next_position(), 1000) << "of which few dozen are held";
  EXPECT_GT(mine.moves(), 20U) << "nothing was moved: the test tests nothing";
}

template <class Codecs>
class StoredRows : public testing::Test {};
/// Every codec, as key and as value.
using stored_codecs = testing::Types<stored_as<kvkeep::f32, kvkeep::f32>, stored_as<kvkeep::f16, kvkeep::bf16>,
                                     stored_as<kvkeep::bf16, kvkeep::f16>, stored_as<kvkeep::int8, kvkeep::int8>,
                                     stored_as<kvkeep::int8, kvkeep::int4>, stored_as<kvkeep::int4, kvkeep::int4>>;
TYPED_TEST_SUITE(StoredRows, stored_codecs);

TYPED_TEST(StoredRows, AreEncodedOnce) {
  // Keys rotated; rotated but the first; raw.
  encodes_once<TypeParam>(kvkeep::streaming_llm{.sinks = 3, .window = 30});
  encodes_once<TypeParam>(kvkeep::lm_infinite{.sinks = 5, .window = 27});
  encodes_once<TypeParam>(kvkeep::random_eviction{.sinks = 2, .window = 11, .count = 20});
}

TEST(ExportRow, NamesWhatIsWrong) {
  auto cache =
      kvkeep::make_cache<kvkeep::f16, kvkeep::f32>(shape, kvkeep::sliding_window{.window = 4}, {.max_step = 9});
  feed(cache, shape, 6);
  std::vector<std::byte> key(128);
  std::vector<std::byte> value(256);
  cache.export_row(0, 1, 5, key, value);
  const auto message = [&](std::size_t layer, std::size_t kv_head, position at, std::size_t key_bytes,
                           std::size_t value_bytes) {
    std::vector<std::byte> k(key_bytes);
    std::vector<std::byte> v(value_bytes);
    const auto result = cache.try_export_row(layer, kv_head, at, k, v);
    EXPECT_FALSE(result);
    EXPECT_THROW(cache.export_row(layer, kv_head, at, k, v), kvkeep::error);
    return result ? std::string() : result.error().message();
  };
  EXPECT_EQ(message(1, 0, 5, 128, 256), "kvkeep: layer = 1; allowed: 0 .. 0");
  EXPECT_EQ(message(0, 2, 5, 128, 256), "kvkeep: kv_head = 2; allowed: 0 .. 1");
  EXPECT_EQ(message(0, 0, 1, 128, 256), "kvkeep: at = 1; allowed: a position that is held");
  EXPECT_EQ(message(0, 0, 5, 256, 256), "kvkeep: key_bytes = 256 bytes; allowed: row_bytes(head_dim) = 128");
  EXPECT_EQ(message(0, 0, 5, 128, 255), "kvkeep: value_bytes = 255 bytes; allowed: row_bytes(head_dim) = 256");
}

TEST(CacheOfIntegers, RefusesHeadDimsThatDoNotFit) {
  const auto refused = [](const auto& result) {
    EXPECT_FALSE(result);
    return result ? std::string() : result.error().message();
  };
  const kvkeep::sliding_window policy{.window = 4};
  EXPECT_EQ(refused(kvkeep::try_cache_bytes<kvkeep::int8, kvkeep::f32>({1, 1, 1, 80}, policy)),
            "kvkeep: head_dim = 80; allowed: a multiple of 32 for the codec int8");
  EXPECT_EQ(refused(kvkeep::try_cache_bytes<kvkeep::f32, kvkeep::int4>({1, 1, 1, 16}, policy)),
            "kvkeep: head_dim = 16; allowed: a multiple of 32 for the codec int4");
  const auto bytes = kvkeep::try_cache_bytes<kvkeep::int8, kvkeep::int4>({1, 1, 1, 128}, policy, {.max_step = 28});
  ASSERT_TRUE(bytes);
  EXPECT_EQ(bytes->keys, 32U * 136);
  EXPECT_EQ(bytes->values, 32U * 72);
}

}  // namespace
}  // namespace kvkeep_test
