// Bad input: one clear error that names argument, value and range; nothing changed.
#include <gtest/gtest.h>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::errc;
using kvkeep::position;
constexpr kvkeep::model_shape shape{2, 4, 2, 8};
const kvkeep::streaming_llm policy{.sinks = 2, .window = 6};

/// The error of a result that must be one; its message begins with the library's name and holds `words`.
template <class R>
void expect_error(const R& r, errc code, const std::string& argument, const std::string& words) {
  ASSERT_FALSE(r) << "no error for " << argument;
  EXPECT_EQ(r.error().code(), code) << r.error().message();
  EXPECT_EQ(r.error().argument(), argument) << r.error().message();
  EXPECT_EQ(r.error().message().find("kvkeep: "), 0U);
  EXPECT_NE(r.error().message().find(words), std::string::npos) << r.error().message();
  EXPECT_STREQ(r.error().what(), r.error().message().c_str());
}

TEST(BadInput, Shapes) {
  const auto with = [](const kvkeep::model_shape& s) { return kvkeep::try_make_cache(s, policy); };
  expect_error(with({0, 4, 2, 8}), errc::invalid_argument, "layers", "layers = 0; allowed: 1 .. 65536");
  expect_error(with({1, 0, 2, 8}), errc::invalid_argument, "query_heads", "query_heads = 0");
  expect_error(with({1, 4, 0, 8}), errc::invalid_argument, "kv_heads", "kv_heads = 0");
  expect_error(with({1, 4, 2, 0}), errc::invalid_argument, "head_dim", "head_dim = 0");
  expect_error(with({1, 4, 3, 8}), errc::invalid_argument, "query_heads",
               "query_heads = 4; allowed: a multiple of kv_heads = 3");
  expect_error(with({1, 2, 4, 8}), errc::invalid_argument, "query_heads", "a multiple of kv_heads = 4");
  expect_error(with({1, 4, 2, 7}), errc::invalid_argument, "rotary_dim", "rotary_dim = 7; allowed: even");
  expect_error(with({1, 4, 2, static_cast<std::size_t>(-8)}), errc::invalid_argument, "head_dim",
               "allowed: 1 .. 65536");
}

TEST(BadInput, Policies) {
  const auto with = [](const auto& p) { return kvkeep::try_make_cache(shape, p); };
  expect_error(with(kvkeep::streaming_llm{.sinks = 0, .window = 0}), errc::invalid_argument, "window", "window = 0");
  expect_error(with(kvkeep::sliding_window{.window = 0}), errc::invalid_argument, "window", "allowed: 1 ..");
  expect_error(with(kvkeep::lm_infinite{.window = 0}), errc::invalid_argument, "window", "window = 0");
  expect_error(with(kvkeep::dense{}), errc::invalid_argument, "max_tokens", "max_tokens = 0");
  expect_error(with(kvkeep::streaming_llm{.window = static_cast<std::size_t>(-5)}), errc::invalid_argument, "window",
               "allowed: 1 .. 2147483647");
  expect_error(with(kvkeep::streaming_llm{.sinks = 2147483647, .window = 2147483647}), errc::invalid_argument, "retain",
               "4294967294 tokens");
  expect_error(with(kvkeep::streaming_llm::published{.start = 0, .recent = 0}), errc::invalid_argument,
               "start + recent", "allowed: >= 1");
  expect_error(with(kvkeep::policy{kvkeep::keep{kvkeep::sinks{0}, kvkeep::recent{0}}}), errc::invalid_argument,
               "retain", "0 tokens");
  expect_error(with(kvkeep::policy{kvkeep::keep{kvkeep::pinned{5, 4}, kvkeep::recent{9}}}), errc::invalid_argument,
               "pinned.last", "pinned.last = 4; allowed: >= first = 5");
  expect_error(with(kvkeep::policy{kvkeep::keep{kvkeep::pinned{-1, 4}, kvkeep::recent{9}}}), errc::invalid_argument,
               "pinned.first", "pinned.first = -1");
  expect_error(with(kvkeep::policy{kvkeep::recent{9}, kvkeep::read_all{}, kvkeep::beyond{0, 3}}),
               errc::invalid_argument, "beyond.window", "beyond.window = 0");
  constexpr auto huge = static_cast<std::size_t>(-1);
  const auto far = [&](const auto& distance) {
    return kvkeep::try_make_cache(shape, kvkeep::policy{kvkeep::recent{9}, kvkeep::read_all{}, distance});
  };
  expect_error(far(kvkeep::beyond{huge, 3}), errc::invalid_argument, "beyond.window", "allowed: 1 .. 2147483647");
  expect_error(far(kvkeep::beyond{3, huge}), errc::invalid_argument, "beyond.at", "allowed: 0 .. 2147483647");
  expect_error(far(kvkeep::clamped_distance{huge}), errc::invalid_argument, "clamped_distance.limit", "allowed: 0 ..");
  expect_error(far(kvkeep::settled_cache_distance{4, 0}), errc::invalid_argument, "settled_cache_distance.window",
               "= 0");
  expect_error(far(kvkeep::retrieved_at{huge, kvkeep::true_distance{}}), errc::invalid_argument, "retrieved_at.at",
               "allowed: 0 ..");
  expect_error(far(kvkeep::retrieved_at{3, kvkeep::beyond{0, 1}}), errc::invalid_argument, "beyond.window", "= 0");
  expect_error(kvkeep::try_make_cache({65536, 1, 1, 65536}, kvkeep::dense{.max_tokens = 2147483647}), errc::capacity,
               "policy", "no machine has memory for 9.22e+18 keys and values");
}

TEST(BadInput, Options) {
  const auto with = [](const kvkeep::cache_options& o) { return kvkeep::try_make_cache(shape, policy, o); };
  expect_error(with({.max_step = 0}), errc::invalid_argument, "max_step", "max_step = 0; allowed: 1 .. 1048576");
  expect_error(with({.max_step = static_cast<std::size_t>(-1)}), errc::invalid_argument, "max_step", "allowed: 1 ..");
  expect_error(with({.first_position = -1}), errc::invalid_argument, "first_position", "first_position = -1");
  expect_error(with({.first_position = kvkeep::position_limit}), errc::invalid_argument, "first_position",
               "allowed: 0 ..");
  expect_error(with({.scale = NAN}), errc::invalid_argument, "scale", "scale = nan");
  expect_error(with({.scale = -1.0F}), errc::invalid_argument, "scale", "scale = -1");
  expect_error(with({.scale = INFINITY}), errc::invalid_argument, "scale", "scale = inf; allowed: finite and > 0");
  expect_error(with({.softcap = INFINITY}), errc::invalid_argument, "softcap", "softcap = inf");
  expect_error(with({.softcap = NAN}), errc::invalid_argument, "softcap", "softcap = nan; allowed: finite and > 0");
  expect_error(with({.softcap = -2.0F}), errc::invalid_argument, "softcap", "softcap = -2");
  expect_error(with({.sink_logits = {1, 2, 3}}), errc::invalid_argument, "sink_logits",
               "3 values; allowed: none or query_heads = 4");
  expect_error(with({.sink_logits = {1, 2, NAN, 4}}), errc::invalid_argument, "sink_logits[2]", "nan");
  expect_error(with({.positions = kvkeep::alibi{{1, 2}}}), errc::invalid_argument, "alibi.slopes", "2 values");
  expect_error(with({.positions = kvkeep::alibi{{1, 2, INFINITY, 4}}}), errc::invalid_argument, "alibi.slopes[2]",
               "inf");
  expect_error(with({.positions = kvkeep::rope{.theta = NAN}}), errc::invalid_argument, "theta",
               "theta = nan; allowed: finite and > 0");
  expect_error(kvkeep::try_cache_bytes(shape, policy, {.max_step = 0}), errc::invalid_argument, "max_step",
               "max_step = 0");
}

TEST(BadInput, HeadDimsOfCodecs) {
  const auto refused = [](const std::string& codec, const auto& made, std::size_t dim) {
    expect_error(made, errc::invalid_argument, "head_dim",
                 fmt::format("head_dim = {}; allowed: a multiple of 32 for the codec {}", dim, codec));
  };
  for (const std::size_t dim : {std::size_t{2}, std::size_t{48}, std::size_t{80}}) {
    const kvkeep::model_shape odd{1, 4, 2, dim};
    refused("int8", kvkeep::try_make_cache<kvkeep::int8, kvkeep::f32>(odd, policy), dim);
    refused("int4", kvkeep::try_make_cache<kvkeep::f16, kvkeep::int4>(odd, policy), dim);
    refused("int4", kvkeep::try_make_cache<kvkeep::int4, kvkeep::int8>(odd, policy), dim);
  }
  EXPECT_TRUE((kvkeep::try_make_cache<kvkeep::int8, kvkeep::int4>({1, 4, 2, 96}, policy)));
}

TEST(BadInput, StepsOutOfTurn) {
  auto cache = kvkeep::make_cache(shape, policy, {.max_step = 4});
  feed(cache, shape, 4);
  const auto held = cache.held();
  expect_error(cache.try_begin(0), errc::invalid_argument, "n", "n = 0; allowed: 1 .. max_step = 4");
  expect_error(cache.try_begin(5), errc::invalid_argument, "n", "n = 5; allowed: 1 .. max_step = 4");
  {
    auto step = cache.begin(2);
    expect_error(cache.try_begin(1), errc::wrong_state, "begin", "begin while a step of 2 tokens is open");
    expect_error(cache.try_reserve(1), errc::wrong_state, "reserve", "is open");
    expect_error(cache.try_erase(0, 1), errc::wrong_state, "erase", "is open");
    expect_error(cache.try_end_turn(), errc::wrong_state, "end_turn", "is open");
    expect_error(cache.try_clear(), errc::wrong_state, "clear", "is open");
    expect_error(step.try_commit(), errc::wrong_state, "commit", "commit before layer 0 of 2 was attended");

    layer_rows rows = rows_of(shape, 0, 4, 2);
    const auto q = view(std::as_const(rows.q), 2, 4, 8);
    const auto kv = view(std::as_const(rows.k), 2, 2, 8);
    const auto out = view(rows.out, 2, 4, 8);
    using rows_in = kvkeep::rows_view<const float>;
    using rows_out = kvkeep::rows_view<float>;
    expect_error(step.try_attend(2, q, kv, kv, out), errc::invalid_argument, "layer", "layer = 2; allowed: 0 .. 1");
    expect_error(step.try_attend(0, view(std::as_const(rows.q), 1, 4, 8), kv, kv, out), errc::invalid_argument, "q",
                 "q = [1, 4, 8]; allowed: [tokens, heads, head_dim] = [2, 4, 8]");
    expect_error(step.try_attend(0, view(std::as_const(rows.q), 2, 2, 8), kv, kv, out), errc::invalid_argument, "q",
                 "[2, 2, 8]");
    expect_error(step.try_attend(0, q, q, kv, out), errc::invalid_argument, "k", "k = [2, 4, 8]");
    expect_error(step.try_attend(0, q, kv, view(std::as_const(rows.k), 2, 2, 4), out), errc::invalid_argument, "v",
                 "[2, 2, 4]");
    expect_error(step.try_attend(0, q, kv, kv, view(rows.out, 2, 2, 8)), errc::invalid_argument, "out",
                 "out = [2, 2, 8]");
    expect_error(step.try_attend(0, rows_in{rows.q.data(), 2, 4, 8, 31}, kv, kv, out), errc::invalid_argument,
                 "q.token_stride", "q.token_stride = 31; allowed: >= heads * head_dim = 32");
    expect_error(step.try_attend(0, q, kv, kv, rows_out{rows.out.data(), 2, 4, 8, 0}), errc::invalid_argument,
                 "out.token_stride", "= 0");
    expect_error(step.try_attend(0, rows_in{nullptr, 2, 4, 8}, kv, kv, out), errc::invalid_argument, "q.data", "null");
    for (const float x : rows.out) ASSERT_EQ(x, -77.0F) << "written in spite of an error";

    ASSERT_TRUE(step.try_attend(0, q, kv, kv, out));
    expect_error(step.try_attend(0, q, kv, kv, out), errc::wrong_state, "layer",
                 "layer = 0 was attended in this step already");
    expect_error(step.try_commit(), errc::wrong_state, "commit", "commit before layer 1 of 2");
    ASSERT_TRUE(step.try_attend(1, q, kv, kv, out));
    expect_error(step.try_commit(3), errc::invalid_argument, "count", "count = 3; allowed: 0 .. 2");
    const std::vector<float> surprisals{1, 2};
    expect_error(step.try_commit({.surprisals = surprisals}), errc::unsupported, "surprisals", "does not use");
    EXPECT_EQ(cache.held(), held) << "nothing happened so far";
    ASSERT_TRUE(step.try_commit());
    expect_error(step.try_commit(), errc::wrong_state, "commit", "commit on a step that is closed");
    expect_error(step.try_attend(0, q, kv, kv, out), errc::wrong_state, "attend", "closed");
  }
  EXPECT_EQ(cache.held(), (std::vector<position>{0, 1, 2, 3, 4, 5}));
  expect_error(cache.try_erase(4, 3), errc::invalid_argument, "last", "last = 3; allowed: first = 4 .. 6");
  expect_error(cache.try_erase(0, 7), errc::invalid_argument, "last", "last = 7");
  expect_error(cache.try_erase(-2, 7), errc::invalid_argument, "first", "first = -2; allowed: >= first_position = 0");
  expect_error(cache.try_reserve(7), errc::capacity, "n", "n = 7; allowed: 0 .. 6");
  EXPECT_EQ(cache.held(), (std::vector<position>{0, 1, 2, 3, 4, 5}));
}

TEST(BadInput, ErrorsInAStepLeaveItAsItWas) {
  // The outcome of a step with errors in between is bit for bit that of a step without.
  auto clean = kvkeep::make_cache(shape, policy, {.max_step = 4});
  auto tried = kvkeep::make_cache(shape, policy, {.max_step = 4});
  for (int i = 0; i < 10; ++i) {
    const position at = clean.next_position();
    const auto expected = feed(clean, shape, 3);
    EXPECT_FALSE(tried.try_begin(9));
    auto step = tried.begin(3);
    EXPECT_FALSE(step.try_attend(7, {}, {}, {}, {}));
    EXPECT_FALSE(step.try_attend(0, {}, {}, {}, {}));
    EXPECT_FALSE(step.try_commit());
    const auto out = attend_all(step, shape, at);
    EXPECT_FALSE(step.try_commit(4));
    EXPECT_EQ(out, expected);
    step.commit();
    EXPECT_EQ(stored(tried, 1, 1), stored(clean, 1, 1));
  }
}

TEST(BadInput, Reading) {
  auto cache = kvkeep::make_cache(shape, policy);
  feed(cache, shape, 20);
  std::vector<float> row(8);
  std::vector<float> small(7);
  expect_error(cache.try_read(2, 0, 0, row, row), errc::invalid_argument, "layer", "layer = 2");
  expect_error(cache.try_read(0, 2, 0, row, row), errc::invalid_argument, "kv_head", "kv_head = 2");
  expect_error(cache.try_read(0, 0, 5, row, row), errc::invalid_argument, "at",
               "at = 5; allowed: a position that is held");
  expect_error(cache.try_read(0, 0, 0, small, row), errc::invalid_argument, "key", "7 floats");
  expect_error(cache.try_read(0, 0, 0, row, small), errc::invalid_argument, "value", "7 floats");
}

TEST(BadInput, StreamsEnd) {
  auto cache = kvkeep::make_cache(shape, policy, {.max_step = 4, .first_position = kvkeep::position_limit - 5});
  feed(cache, shape, 4);
  expect_error(cache.try_begin(2), errc::invalid_argument, "n", "where the stream's positions end");
  feed(cache, shape, 1);
  expect_error(cache.try_begin(1), errc::invalid_argument, "n", "allowed: 0 .. 0");
}

TEST(BadInput, ThrowsTheSameError) {
  try {
    auto cache = kvkeep::make_cache(shape, kvkeep::sliding_window{.window = 0});
    FAIL() << "no exception";
  } catch (const kvkeep::error& e) {
    EXPECT_EQ(e.argument(), "window");
    EXPECT_STREQ(e.what(), "kvkeep: window = 0; allowed: 1 .. 2147483647");
  }
  auto cache = kvkeep::make_cache(shape, policy);
  EXPECT_THROW(cache.erase(3, 1), kvkeep::error);
  EXPECT_THROW((void)cache.begin(1000), std::exception);
}

TEST(BadInput, Reference) {
  const layer_rows rows = rows_of(shape, 0, 0, 3);
  const auto all = [](std::size_t, std::size_t) { return std::optional<position>(0); };
  const auto q = view(rows.q, 3, 4, 8);
  const auto k = view(rows.k, 3, 2, 8);
  expect_error(kvkeep::try_reference_attention(q, view(rows.k, 2, 3, 8), k, {}, all), errc::invalid_argument,
               "query_heads", "multiple");
  expect_error(kvkeep::try_reference_attention(q, view(rows.k, 3, 2, 4), k, {}, all), errc::invalid_argument,
               "k.head_dim", "= 4");
  expect_error(kvkeep::try_reference_attention(q, k, view(rows.v, 2, 2, 8), {}, all), errc::invalid_argument, "v",
               "[2, 2, 8]");
  expect_error(kvkeep::try_reference_attention(q, k, k, {.positions = kvkeep::rope{.theta = 0}}, all),
               errc::invalid_argument, "theta", "= 0");
  expect_error(kvkeep::try_reference_attention(q, k, k, {.sink_logits = {1}}, all), errc::invalid_argument,
               "sink_logits", "1 values; allowed: none or query_heads = 4");
  expect_error(kvkeep::try_reference_attention(q, k, k, {.sink_logits = {1, 2, 3, NAN}}, all), errc::invalid_argument,
               "sink_logits", "nan");
  expect_error(kvkeep::try_reference_attention(q, k, k, {.scale = NAN}, all), errc::invalid_argument, "scale", "nan");
  expect_error(kvkeep::try_reference_attention(q, k, k, {.softcap = -1}, all), errc::invalid_argument, "softcap", "-1");
  expect_error(kvkeep::try_reference_attention(q, k, k, {.window = 4}, all), errc::invalid_argument, "window",
               "allowed: 0 .. 3");
  expect_error(kvkeep::try_reference_attention(q, {nullptr, 3, 2, 8}, k, {}, all), errc::invalid_argument, "k.data",
               "null");
  expect_error(kvkeep::try_reference_attention({rows.q.data(), 3, 4, 8, 9}, k, k, {}, all), errc::invalid_argument,
               "q.token_stride", "9");
  expect_error(kvkeep::try_reference_attention(q, k, k, {.positions = kvkeep::alibi{{1}}}, all), errc::invalid_argument,
               "alibi.slopes", "1 values");
}

}  // namespace
}  // namespace kvkeep_test
