// Random histories of begin, commit(a), abort, erase, reserve, end_turn and clear against the slow model, and against the same
// history fed plainly.
#include <gtest/gtest.h>

#include "../support/cases.hpp"

namespace kvkeep_test {
namespace {

constexpr std::size_t max_step = 24;

/// What happens next in a history.
struct event {
  enum class kind { step, abort, erase, reserve, end_turn, clear } what = kind::step;
  std::size_t n = 0;      // tokens of a step, or reserved
  std::size_t count = 0;  // tokens committed
  double from = 0;        // erase: where in the stream, 0 .. 1
  std::size_t length = 0;
  std::uint64_t salt = 0;
};

std::vector<event> history(dice& random, std::size_t events, std::size_t most_tokens, std::size_t most_reserved) {
  std::vector<event> all;
  for (std::size_t i = 0; i < events; ++i) {
    event e;
    e.salt = random.next();
    const double roll = static_cast<double>(random.between(0, 99));
    e.n = random.chance(0.5) ? 1 : random.between(1, most_tokens);
    e.count = e.n;
    if (roll < 55) {
      e.what = event::kind::step;
    } else if (roll < 72) {
      e.what = event::kind::step;
      e.count = random.between(0, e.n);
    } else if (roll < 82) {
      e.what = event::kind::abort;
    } else if (roll < 90) {
      e.what = event::kind::erase;
      e.from = static_cast<double>(random.between(0, 1000)) / 1000;
      e.length = random.between(0, 9);
    } else if (roll < 94) {
      e.what = event::kind::end_turn;
    } else if (roll < 98 || i < events / 3) {
      e.what = event::kind::reserve;
      e.n = random.between(0, most_reserved);
    } else {
      e.what = event::kind::clear;
    }
    all.push_back(e);
  }
  return all;
}

/// Commits the first `count` tokens of a step that begins at `first`, with the evidence that the policy asks for.
template <class Policy, class Step>
void commit(Step& step, std::size_t count, position first, std::uint64_t salt) {
  std::vector<float> surprisals;
  for (std::size_t t = 0; kvkeep::planner<Policy>::wants_surprisals && t < count; ++t) {
    surprisals.push_back(surprisal_of(first + static_cast<position>(t), salt));
  }
  step.commit(count, {.surprisals = surprisals});
}

template <class Codecs, class Policy>
void run_history(const std::string& name, const Policy& policy, const words& meaning, std::size_t most_reserved,
                 const kvkeep::model_shape& shape, const kvkeep::position_encoding& positions, position first,
                 std::uint64_t seed) {
  SCOPED_TRACE(name + ", seed " + std::to_string(seed));
  dice random(seed);
  const kvkeep::cache_options options{.positions = positions, .max_step = max_step, .first_position = first};
  using key_codec = typename Codecs::key;
  using value_codec = typename Codecs::value;
  auto cache = kvkeep::make_cache<key_codec, value_codec>(shape, policy, options);
  auto plain = kvkeep::make_cache<key_codec, value_codec>(shape, policy, options);  // fed only what was committed
  stream_model model(shape, meaning, {.positions = positions}, first);
  if constexpr (!std::is_same_v<Codecs, stored_as<kvkeep::f32, kvkeep::f32>>) {
    const auto plan = std::make_shared<kvkeep::planner<Policy>>(
        kvkeep::make_planner(shape, policy, {.max_step = max_step, .first_position = first}));
    const bool turned = std::holds_alternative<kvkeep::rope>(positions) && plan->storage().scattered;
    model.attention_of_stored = [=](const auto& q, const auto& at, const auto& distances, const auto& k,
                                    const auto& v) {
      std::vector<key_read> keys;
      const auto& storage = plan->storage();
      const position query = *std::max_element(at.begin(), at.end());  // every policy here reads the query's own key
      for (std::size_t j = 0; j < at.size(); ++j) {
        const bool raw = storage.both() ? query - at[j] >= storage.raw_from_age : plan->raw(at[j]);
        keys.push_back({at[j], distances[j], raw});
      }
      return attention_as_stored<Codecs>(shape, {.positions = positions}, turned, q, keys, k, v).output;
    };
  }
  bool aborted = false;

  const bool one_by_one = kvkeep::planner<Policy>::wants_surprisals && Policy{policy}.rules().when.chunk_invariant;
  const auto take_step = [&](const event& e, std::size_t n, std::size_t count) {
    const position next = cache.next_position();
    auto step = cache.begin(n);
    // Rejected tokens carry other data than what follows: the salt is the event's.
    const auto outputs = attend_all(step, shape, next, e.salt);
    const auto expected = model.step(n, count, e.salt);
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      ASSERT_LT(max_difference(outputs[layer], expected[layer]), Codecs::tolerance)
          << "layer " << layer << " at " << next;
    }
    if (e.what != event::kind::abort) commit<Policy>(step, count, next, e.salt);
    if (count == 0) {
      aborted = true;
      return;
    }
    auto plain_step = plain.begin(count);
    const auto plain_outputs = attend_all(plain_step, shape, next, e.salt);
    commit<Policy>(plain_step, count, next, e.salt);
    if (!aborted && count == n) {
      ASSERT_EQ(outputs, plain_outputs) << "bit for bit, as no step was abandoned";
    }
  };
  for (const event& e : history(random, 60, one_by_one ? 1 : max_step, most_reserved)) {
    const position next = cache.next_position();
    if (e.what == event::kind::step || e.what == event::kind::abort) {
      ASSERT_NO_FATAL_FAILURE(take_step(e, e.n, e.what == event::kind::abort ? 0 : e.count));
    } else if (e.what == event::kind::erase) {
      const auto from = first + static_cast<position>(e.from * static_cast<double>(next - first));
      const position to = std::min(next, from + static_cast<position>(e.length));
      cache.erase(from, to);
      plain.erase(from, to);
      model.erase(from, to);
    } else if (e.what == event::kind::reserve) {
      if (most_reserved == 0) continue;
      cache.reserve(e.n);
      plain.reserve(e.n);
      model.reserve(e.n);
      if (one_by_one && e.n > 0) {  // the turn that there is room for now
        ASSERT_EQ(cache.held(), model.held());
        ASSERT_NO_FATAL_FAILURE(take_step(e, e.n, static_cast<std::size_t>(e.salt % (e.n + 1))));
      }
    } else if (e.what == event::kind::end_turn) {
      cache.end_turn();
      plain.end_turn();
      model.end_turn();
    } else {
      cache.clear();
      plain.clear();
      model.clear();
    }
    ASSERT_EQ(cache.next_position(), model.next());
    ASSERT_EQ(cache.held(), model.held());
    ASSERT_EQ(plain.held(), model.held());
    ASSERT_LE(cache.held_count(), cache.capacity());
    ASSERT_LE(cache.block_count(), (model.held().size() + 15) / 16 + 1);
    if (random.chance(0.2)) {
      for (std::size_t layer = 0; layer < shape.layers; ++layer) {
        for (std::size_t h = 0; h < shape.kv_heads; ++h) ASSERT_EQ(stored(cache, layer, h), stored(plain, layer, h));
      }
    }
  }
}

template <class Codecs>
class History : public testing::Test {};
TYPED_TEST_SUITE(History, all_codecs);

template <class Codecs>
class CodedHistory : public testing::Test {};
TYPED_TEST_SUITE(CodedHistory, more_codecs);

TYPED_TEST(CodedHistory, EqualsTheSlowModelOfDecodedRows) {
  const kvkeep::model_shape shape{1, 4, 2, TypeParam::head_dim};
  const kvkeep::position_encoding encodings[] = {kvkeep::rope{.theta = 100.0}, kvkeep::alibi{}};
  std::uint64_t seed = 3000;
  for (const auto& encoding : encodings) {
    for (const position first : {0, 12345}) {
      const auto run = [&](const std::string& name, const auto& policy, const words& meaning, std::size_t reserved) {
        run_history<TypeParam>(name, policy, meaning, reserved, shape, encoding, first, seed++);
      };
      for_each_storage(first, run);
      with_sir_llm(first, run);
    }
  }
}

TYPED_TEST(History, EqualsTheSlowModelAndThePlainFeed) {
  const kvkeep::model_shape shapes[] = {{2, 4, 2, 8}, {1, 3, 3, 4}, {1, 6, 1, 16}};
  std::uint64_t seed = 1;
  for (const auto& shape : shapes) {
    for_each_policy(0, [&](const std::string& name, const auto& policy, const words& meaning, std::size_t reserved) {
      for (int repeat = 0; repeat < 2; ++repeat) {
        run_history<TypeParam>(name, policy, meaning, reserved, shape, kvkeep::rope{.theta = 100.0}, 0, seed++);
        if (testing::Test::HasFatalFailure()) return;
      }
    });
  }
}

TEST(HistoryByBlocks, EqualsTheSlowModel) {
  std::uint64_t seed = 4000;
  for (const position first : {0, 12345}) {
    for_each_policy_by_blocks(
        first, [&](const std::string& name, const auto& policy, const words& meaning, std::size_t reserved) {
          for (int repeat = 0; repeat < 6; ++repeat) {
            run_history<stored_as<kvkeep::f32, kvkeep::f32>>(name, policy, meaning, reserved, {1, 4, 2, 8},
                                                             kvkeep::rope{.theta = 100.0}, first, seed++);
            if (testing::Test::HasFatalFailure()) return;
          }
        });
  }
}

TYPED_TEST(History, ColumnsAndStatesFollowTheirTokens) {
  std::uint64_t seed = 2000;
  for (const position first : {0, 12345}) {
    for_each_policy_with_surprisals(first, [&](const std::string& name, const auto& policy, const words& meaning,
                                               std::size_t reserved) {
      for (int repeat = 0; repeat < 8; ++repeat) {
        const kvkeep::position_encoding none = kvkeep::no_positions{};
        const kvkeep::position_encoding rope = kvkeep::rope{.theta = 100.0};
        run_history<TypeParam>(name, policy, meaning, reserved, {1, 2, 1, 4}, repeat < 4 ? none : rope, first, seed++);
        if (testing::Test::HasFatalFailure()) return;
      }
    });
  }
}

TYPED_TEST(History, HoldsForEveryEncodingAndStart) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  const kvkeep::position_encoding encodings[] = {
      kvkeep::rope{.theta = 1000.0, .rotary_dim = 4, .layout = kvkeep::rope_layout::interleaved},
      kvkeep::rope{.theta = 1000.0, .scaling = kvkeep::yarn_scaling{.factor = 4, .original_max_position = 16}},
      kvkeep::alibi{}, kvkeep::no_positions{}};
  std::uint64_t seed = 1000;
  for (const auto& encoding : encodings) {
    for_each_policy(12345,
                    [&](const std::string& name, const auto& policy, const words& meaning, std::size_t reserved) {
                      run_history<TypeParam>(name, policy, meaning, reserved, shape, encoding, 12345, seed++);
                    });
  }
}

}  // namespace
}  // namespace kvkeep_test
