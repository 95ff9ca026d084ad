// Memory units in a file: the same as in RAM, which of them stay there, what it costs, and everything that can go wrong with a file.
#include "kvkeep/memory/unit_tiers.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>

#include "../support/allocations.hpp"
#include "../support/replaced_file.hpp"
#include "../support/rows.hpp"
#include "../support/temporary.hpp"
#include "kvkeep/core/background_thread.hpp"

namespace kvkeep_test {
namespace {

namespace fs = std::filesystem;
namespace hot = kvkeep::hot;
using kvkeep::chosen_by;
using kvkeep::inf_llm;
using kvkeep::position;
using kvkeep::unit_tiers;

const kvkeep::rope rotary{.theta = 100.0};
constexpr kvkeep::model_shape shape{2, 4, 2, 8};
constexpr std::size_t stream = 400;
const inf_llm policy{.sinks = 3, .window = 12, .block_size = 5, .count = 2, .representatives = 2, .max_tokens = stream};

/// Bytes of the frames of `units` units of up to 16 tokens, in every layer.
std::size_t frames(std::size_t units, const kvkeep::model_shape& of = shape) {
  return units * of.layers * of.kv_heads * 2 * kvkeep::f32::key_block_bytes(of.head_dim);
}

/// Bytes of a unit in the file, in every layer: all kv heads have 5 tokens each in one block of 16 rows.
constexpr std::size_t filed_bytes = shape.layers * 2 * kvkeep::f32::key_block_bytes(shape.head_dim);

template <class Policy>
auto make(const Policy& of, const unit_tiers& tiers, std::size_t max_step = 40) {
  constexpr bool shortens = !std::is_same_v<Policy, inf_llm::published>;
  return kvkeep::make_cache(
      shape, of, {.positions = rotary, .max_step = max_step, .max_shortened = shortens ? max_step : 0, .tiers = tiers});
}

/// Runs two caches over the same random history and expects the same of them.
template <class Cache>
void expect_the_same(Cache& ours, Cache& theirs, std::uint64_t seed, std::size_t tokens, bool shortens) {
  dice random(seed);
  std::size_t most = tokens;
  while (most > 40) {
    const position next = theirs.next_position();
    ASSERT_EQ(ours.next_position(), next);
    const std::size_t n = random.chance(0.5) ? 1 : random.between(1, 40);
    const std::uint64_t salt = random.next();
    if (random.chance(0.2)) {  // nothing came of it
      auto step = ours.begin(n);
      attend_all(step, shape, next, salt + 1);
      continue;
    }
    const bool part = shortens && random.chance(0.3);
    const std::size_t count = part ? random.between(1, n) : n;
    auto a = part ? ours.begin(n, kvkeep::may_shorten) : ours.begin(n);
    auto b = part ? theirs.begin(n, kvkeep::may_shorten) : theirs.begin(n);
    const auto out = attend_all(a, shape, next, salt);
    const auto expected = attend_all(b, shape, next, salt);
    a.commit(count);
    b.commit(count);
    most -= count;
    for (std::size_t l = 0; l < shape.layers; ++l) {
      ASSERT_LT(max_difference(out[l], expected[l]), 1e-5) << "layer " << l << ", tokens " << next << " .. + " << n;
      for (std::size_t c = 0; c < ours.memory().choosers(); ++c) {
        const auto mine = ours.memory().retrieved(l, c);
        const auto wanted = theirs.memory().retrieved(l, c);
        ASSERT_TRUE(std::equal(mine.begin(), mine.end(), wanted.begin(), wanted.end()));
      }
    }
    if (random.chance(0.1)) {
      const position from = static_cast<position>(random.between(0, static_cast<std::size_t>(ours.next_position())));
      const position to = std::min(ours.next_position(), from + static_cast<position>(random.between(0, 9)));
      ours.erase(from, to);
      theirs.erase(from, to);
    }
  }
}

const hot::lru lru{};
const kvkeep::hot_rule every_rule[] = {lru, hot::fifo{}, hot::decayed{},
                                       hot::decayed{.decay = 0.5F, .since_use = true}};

TEST(UnitTiers, ReadsWhatACacheInRamReads) {
  const temporary_directory place;
  kvkeep::background_thread io;
  std::uint64_t seed = 1;
  for (const chosen_by chooses : {chosen_by::layer, chosen_by::kv_head, chosen_by::query_head}) {
    for (const kvkeep::hot_rule& keeps : every_rule) {
      for (const bool background : {false, true}) {
        SCOPED_TRACE(fmt::format("seed {}", seed));
        const std::size_t read_ahead = seed / 4 % 4;
        inf_llm mine = policy;
        mine.chooses = chooses;
        mine.every = seed % 3 + 1;
        const std::size_t least = mine.count * (chooses == chosen_by::layer     ? 1
                                                : chooses == chosen_by::kv_head ? 2
                                                                                : 4);
        unit_tiers tiers{
            .hot_bytes = frames(least + (background ? 1 : 0) + seed % 5), .path = place.at("kv"), .keeps = keeps};
        if (background) {
          tiers.background = io;
          tiers.read_ahead = read_ahead;
        }
        auto ours = make(mine, tiers);
        auto theirs = make(mine, {});
        expect_the_same(ours, theirs, seed++, stream, true);
        if (HasFatalFailure()) return;
        const kvkeep::tier_counters counted = ours.memory().tiers();
        EXPECT_GT(counted.hits, 0U);
        EXPECT_GT(counted.misses, 0U);
        EXPECT_GT(counted.bytes_read, 0U);
        EXPECT_EQ(counted.read_ahead > 0, tiers.read_ahead > 0);
        ours.clear();
        theirs.clear();
        expect_the_same(ours, theirs, seed++, 150, true);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(UnitTiers, ReadsWhatTheAuthorsCodeReadsInRam) {
  const temporary_directory place;
  for (std::uint64_t seed = 100; seed < 106; ++seed) {
    const inf_llm::published mine{
        .n_init = 3,
        .n_local = 12,
        .block_size = 5,
        .topk = 2,
        .repr_topk = 2,
        .exc_block_size = seed % 9 + 1,
        .max_tokens = stream,
        .pending = seed % 2 == 0 ? kvkeep::pending_mask::exact : kvkeep::pending_mask::authors};
    auto ours = make(mine, {.hot_bytes = frames(2 + seed % 3), .path = place.at("kv"), .keeps = every_rule[seed % 4]});
    auto theirs = make(mine, {});
    expect_the_same(ours, theirs, seed, stream, false);
    if (HasFatalFailure()) return;
  }
}

// What is filed has been through the cold codec, and through nothing else; what is hot makes no difference.
TEST(UnitTiers, KeepsUnitsInTheColdCodec) {
  const temporary_directory place;
  constexpr kvkeep::model_shape wide{1, 4, 2, 32};
  constexpr std::size_t tokens = 90;
  const inf_llm all{.sinks = 3, .window = 12, .block_size = 5, .count = 20, .representatives = 1, .max_tokens = tokens};
  auto ours = kvkeep::make_cache(wide, all,
                                 {.positions = rotary,
                                  .tiers = {.hot_bytes = frames(20, wide),
                                            .path = place.at("kv"),
                                            .cold = kvkeep::cold_codec::of<kvkeep::int8, kvkeep::f16>()}});
  auto far =
      kvkeep::make_cache(wide, kvkeep::policy{kvkeep::keep_all{tokens}, kvkeep::read_all{}, kvkeep::beyond{12, 11}},
                         {.positions = rotary});
  std::vector<std::vector<float>> last;
  for (std::size_t t = 0; t < tokens; ++t) last = feed(ours, wide, 1);
  // The last query finds all units filed that were complete before the one before it came.
  const std::size_t filed = 3 + (tokens - 2 - 3 - 12) / 5 * 5;
  layer_rows rows = rows_of(wide, 0, 0, tokens);
  std::vector<std::byte> block(kvkeep::f16::value_block_bytes(32) + kvkeep::int8::key_block_bytes(32));
  for (std::size_t t = 3; t < filed; ++t) {
    for (std::size_t h = 0; h < 2; ++h) {
      const std::span<float> key(rows.k.data() + (t * 2 + h) * 32, 32);
      kvkeep::int8::write_key(block.data(), 0, key);
      kvkeep::int8::read_key(block.data(), 0, key);
      const std::span<float> value(rows.v.data() + (t * 2 + h) * 32, 32);
      kvkeep::f16::write_value(block.data(), 0, value);
      kvkeep::f16::read_value(block.data(), 0, value);
    }
  }
  std::vector<float> expected(tokens * 4 * 32);
  auto step = far.begin(tokens);
  step.attend(0, view(std::as_const(rows.q), tokens, 4, 32), view(std::as_const(rows.k), tokens, 2, 32),
              view(std::as_const(rows.v), tokens, 2, 32), view(expected, tokens, 4, 32));
  step.commit();
  expected.erase(expected.begin(), expected.end() - 4 * 32);
  EXPECT_LT(max_difference(last[0], expected), 1e-5);
}

TEST(UnitTiers, WhatIsHotMakesNoDifference) {
  const temporary_directory place;
  const auto last = [&](std::size_t units) {
    constexpr kvkeep::model_shape wide{1, 4, 2, 32};
    auto cache = kvkeep::make_cache<kvkeep::bf16>(wide, policy,
                                                  {.positions = rotary,
                                                   .tiers = {.hot_bytes = frames(units, wide),
                                                             .path = place.at("kv"),
                                                             .cold = kvkeep::cold_codec::of<kvkeep::int4>()}});
    std::vector<float> all;
    for (std::size_t t = 0; t < 200; ++t) {
      const auto out = feed(cache, wide, 1);
      all.insert(all.end(), out[0].begin(), out[0].end());
    }
    return all;
  };
  const auto all = last(200);
  EXPECT_LT(max_difference(last(2), all), 1e-5);
  EXPECT_LT(max_difference(last(7), all), 1e-5);
}

/// A hot set of one layer that is asked for single units; returns what it holds, sorted.
struct asked {
  explicit asked(const kvkeep::hot_rule& rule, std::size_t room) : memory(1U << 16U) {
    units.lay_out(memory, 1, 9, room);
    units.rule(rule);
    units.reset();
  }
  std::vector<std::uint32_t> ask(std::uint32_t unit, double mass = 0.0) {
    units.begin_batch();
    const std::uint32_t wanted[] = {unit};
    EXPECT_TRUE(units.admit(0, wanted));
    units.look_up(0, wanted);
    std::uint32_t f = units.frame_of(0, unit);
    if (f == kvkeep::detail::hot_units::nowhere) f = units.enter(0, unit, [](auto&) { return true; });
    units.join(units.of(0)[f]);
    units.use(units.of(0)[f]);
    units.attended(0, f, mass);
    std::vector<std::uint32_t> held;
    for (const auto& frame : units.of(0)) {
      if (frame.unit != kvkeep::detail::hot_units::nowhere) held.push_back(frame.unit);
    }
    std::sort(held.begin(), held.end());
    return held;
  }
  kvkeep::detail::arena memory;
  kvkeep::detail::hot_units units;
};
using held = std::vector<std::uint32_t>;

TEST(UnitTiers, TheRuleDecidesWhichUnitLeaves) {
  asked by_use(hot::lru{}, 2);
  for (const std::uint32_t unit : {0U, 1U, 0U}) by_use.ask(unit);
  EXPECT_EQ(by_use.ask(2), (held{0, 2}));
  asked by_age(hot::fifo{}, 2);
  for (const std::uint32_t unit : {0U, 1U, 0U}) by_age.ask(unit);
  EXPECT_EQ(by_age.ask(2), (held{1, 2}));
  asked since_use(hot::decayed{.decay = 0.5F, .since_use = true}, 2);
  since_use.ask(0, 4.0);
  since_use.ask(1, 1.0);
  since_use.ask(0, 0.2);
  EXPECT_EQ(since_use.ask(2), (held{1, 2})) << "0 has 0.2, 1 has 0.25 by now";
  asked decayed(hot::decayed{.decay = 0.5F}, 2);
  decayed.ask(0, 4.0);
  decayed.ask(1, 1.0);
  decayed.ask(0, 0.2);
  EXPECT_EQ(decayed.ask(2), (held{0, 2})) << "0 has 0.6, 1 has 0.25 by now";
}

TEST(UnitTiers, FramesOfABatchAreNotTaken) {
  asked some(hot::lru{}, 2);
  some.ask(0);
  some.ask(1);
  some.units.begin_batch();
  const std::uint32_t first[] = {0};
  ASSERT_TRUE(some.units.admit(0, first));
  EXPECT_NE(some.units.enter(0, 2, [](auto&) { return true; }), some.units.frame_of(0, 0));
  EXPECT_NE(some.units.frame_of(0, 0), kvkeep::detail::hot_units::nowhere);
  const std::uint32_t two[] = {3, 4};
  EXPECT_FALSE(some.units.admit(0, two)) << "one frame is left";
}

/// Memory of this process that no file backs, bytes.
std::size_t anonymous_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "RssAnon:") continue;
    std::size_t kib = 0;
    status >> kib;
    return kib * 1024;
  }
  return 0;
}

TEST(UnitTiers, UnitsLeaveMemory) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "a sanitizer's own memory would be measured";
#endif
  const temporary_directory place;
  constexpr kvkeep::model_shape large{2, 4, 2, 64};
  constexpr std::size_t tokens = 24000;  // 2 KiB each
  const inf_llm mine{
      .sinks = 4, .window = 64, .block_size = 64, .count = 4, .representatives = 2, .every = 16, .max_tokens = tokens};
  const std::size_t before = anonymous_memory();
  ASSERT_GT(before, 0U);
  auto cache = kvkeep::make_cache(
      large, mine,
      {.positions = rotary, .max_step = 64, .tiers = {.hot_bytes = std::size_t{1} << 20U, .path = place.at("kv")}});
  const kvkeep::cache_bytes bytes = cache.bytes();
  for (std::size_t t = 0; t + 64 <= tokens; t += 64) feed(cache, large, 64);
  const std::size_t now = anonymous_memory();
  constexpr std::size_t pages = std::size_t{4} << 20U;  // ends of large pages, and the allocator's own
  EXPECT_LT(now - std::min(now, before), bytes.total + pages);
  EXPECT_LT(bytes.total + pages, tokens * 2048 / 3) << "a third of the stream's keys and values";
  EXPECT_GT(fs::file_size(place.at("kv")), tokens * 2048 * 9 / 10);
  EXPECT_LE(fs::file_size(place.at("kv")), bytes.file);
}

TEST(UnitTiers, StepsAllocateNothing) {
  for (const bool background : {false, true}) {
    const temporary_directory place;
    kvkeep::background_thread io;
    unit_tiers tiers{.hot_bytes = frames(3), .path = place.at("kv")};
    if (background) {
      tiers.background = io;
      tiers.read_ahead = 1;
    }
    auto cache = make(policy, tiers);
    feed(cache, shape, 40);
    layer_rows rows = rows_of(shape, 0, 0, 1);
    const auto step_once = [&] {
      auto step = cache.begin(1);
      for (std::size_t l = 0; l < shape.layers; ++l) {
        step.attend(l, view(std::as_const(rows.q), 1, 4, 8), view(std::as_const(rows.k), 1, 2, 8),
                    view(std::as_const(rows.v), 1, 2, 8), view(rows.out, 1, 4, 8));
      }
      step.commit();
    };
    for (int i = 0; i < 50; ++i) step_once();
    const std::size_t before = allocations();
    for (int i = 0; i < 200; ++i) step_once();
    EXPECT_EQ(allocations(), before);
  }
}

TEST(UnitTiers, SaysItsBytesBefore) {
  const temporary_directory place;
  const kvkeep::cache_options options{
      .positions = rotary, .max_step = 40, .tiers = {.hot_bytes = frames(3) + 5, .path = place.at("kv")}};
  const kvkeep::cache_bytes promised = kvkeep::cache_bytes_of(shape, policy, options);
  EXPECT_FALSE(fs::exists(place.at("kv"))) << "asking makes no file";
  const std::size_t before = bytes_allocated();
  const auto cache = kvkeep::make_cache(shape, policy, options);
  EXPECT_GE(promised.total + 1024, bytes_allocated() - before) << "the path is on the heap too";
  EXPECT_EQ(cache.bytes().total, promised.total);
  EXPECT_EQ(promised.file, (stream - 3 - 12) / 5 * filed_bytes);
  EXPECT_GT(promised.staging, 0U);
  const kvkeep::cache_bytes in_ram = kvkeep::cache_bytes_of(shape, policy, {.positions = rotary, .max_step = 40});
  EXPECT_LT(promised.keys, in_ram.keys);
  EXPECT_EQ(in_ram.file, 0U);
  EXPECT_EQ(in_ram.staging, 0U);
}

/// Runs tasks at once, so that a test knows when.
struct prompt_executor {
  void submit(kvkeep::background_task task) { task(); }
};

/// A unit and its records.
struct small_unit {
  std::size_t tokens;
  std::size_t kv_heads;
  std::size_t blocks;  // of 16 rows, of a layer's record
};
const small_unit small_units[] = {{8, 3, 2}, {4, 8, 2}, {1, 1, 1}, {5, 2, 1}, {16, 2, 2}, {17, 3, 4}, {40, 2, 5}};

/// A policy with such units that represents by dot products, and forgets nothing.
inf_llm of_unit(const small_unit& unit) {
  return {.sinks = 3,
          .window = 12,
          .block_size = unit.tokens,
          .count = 2,
          .representatives = 1,
          .max_tokens = 3 + 12 + 8 * unit.tokens};
}

/// Expects the records of units, and that the bytes are told before.
template <class Key, class Value>
void expect_records(const small_unit& unit, const kvkeep::cold_codec& cold) {
  SCOPED_TRACE(fmt::format("{} and {}{}, {} tokens of {} kv heads", Key::name, Value::name, cold ? " to int8" : "",
                           unit.tokens, unit.kv_heads));
  using file_key = kvkeep::int8;
  const temporary_directory place;
  prompt_executor io;
  const kvkeep::model_shape wide{2, 2 * unit.kv_heads, unit.kv_heads, 32};
  const inf_llm mine = of_unit(unit);
  const kvkeep::cache_options options{
      .positions = rotary,
      .max_step = 10,
      .tiers = {.hot_bytes = std::size_t{1} << 30U, .path = place.at("kv"), .cold = cold, .background = io}};
  const std::size_t key_block = cold ? file_key::key_block_bytes(32) : Key::key_block_bytes(32);
  const std::size_t value_block = cold ? file_key::value_block_bytes(32) : Value::value_block_bytes(32);
  const std::size_t record = unit.blocks * (key_block + value_block);
  const kvkeep::cache_bytes promised = kvkeep::cache_bytes_of<Key, Value>(wide, mine, options);
  EXPECT_EQ(promised.file, 8 * 2 * record);
  const auto lines = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
  EXPECT_EQ(promised.staging, lines(2 * (10 / unit.tokens + 1) * 2 * record) + lines(record));
  auto ours = kvkeep::make_cache<Key, Value>(wide, mine, options);
  EXPECT_EQ(ours.bytes().staging, promised.staging);
  EXPECT_EQ(ours.bytes().file, promised.file);
  while (static_cast<std::size_t>(ours.next_position()) < mine.max_tokens) feed(ours, wide, 1);
  const std::size_t units = fs::file_size(place.at("kv")) / (2 * record);
  EXPECT_EQ(fs::file_size(place.at("kv")), units * 2 * record);
  ASSERT_GE(units, 7U);
  std::vector<std::byte> bytes(units * 2 * record);
  std::ifstream file(place.at("kv"), std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  std::vector<std::byte> block(std::max(Key::key_block_bytes(32), Value::value_block_bytes(32)));
  std::vector<std::byte> cold_block(std::max(key_block, value_block));
  std::vector<float> was(32);
  std::vector<float> wanted(32);
  for (std::size_t u = 0; u < units; ++u) {
    for (std::size_t l = 0; l < 2; ++l) {
      const std::byte* const keys = bytes.data() + (u * 2 + l) * record;
      const std::byte* const values = keys + unit.blocks * key_block;
      const auto first = static_cast<position>(3 + u * unit.tokens);
      const layer_rows rows = rows_of(wide, l, first, unit.tokens);
      for (std::size_t h = 0; h < unit.kv_heads; ++h) {
        for (std::size_t t = 0; t < unit.tokens; ++t) {
          const std::size_t row = h * unit.tokens + t;
          const std::size_t at = (t * unit.kv_heads + h) * 32;
          Key::write_key(block.data(), 0, {rows.k.data() + at, 32});
          Key::read_key(block.data(), 0, wanted);
          if (cold) {
            file_key::write_key(cold_block.data(), 0, wanted);
            file_key::read_key(cold_block.data(), 0, wanted);
            file_key::read_key(keys + row / 16 * key_block, row % 16, was);
          } else {
            Key::read_key(keys + row / 16 * key_block, row % 16, was);
          }
          ASSERT_EQ(was, wanted) << "key of unit " << u << ", layer " << l << ", kv head " << h << ", token " << t;
          Value::write_value(block.data(), 0, {rows.v.data() + at, 32});
          Value::read_value(block.data(), 0, wanted);
          if (cold) {
            file_key::write_value(cold_block.data(), 0, wanted);
            file_key::read_value(cold_block.data(), 0, wanted);
            file_key::read_value(values + row / 16 * value_block, row % 16, was);
          } else {
            Value::read_value(values + row / 16 * value_block, row % 16, was);
          }
          ASSERT_EQ(was, wanted) << "value of unit " << u << ", layer " << l << ", kv head " << h << ", token " << t;
        }
      }
    }
  }
}

TEST(UnitTiers, SmallUnitsShareTheBlocksOfTheirRecord) {
  for (const small_unit& unit : small_units) {
    expect_records<kvkeep::f32, kvkeep::f32>(unit, {});
    expect_records<kvkeep::f16, kvkeep::bf16>(unit, {});
    expect_records<kvkeep::bf16, kvkeep::f16>(unit, {});
    expect_records<kvkeep::int8, kvkeep::int4>(unit, {});
    expect_records<kvkeep::int4, kvkeep::int8>(unit, {});
    expect_records<kvkeep::f32, kvkeep::f16>(unit, kvkeep::cold_codec::of<kvkeep::int8>());
    if (HasFatalFailure()) return;
  }
}

/// Expects that what a cache reads from records is what it filed.
template <class Codec>
void expect_read_back(const small_unit& unit) {
  SCOPED_TRACE(fmt::format("{}, {} tokens of {} kv heads", Codec::name, unit.tokens, unit.kv_heads));
  const temporary_directory place;
  const kvkeep::model_shape wide{2, 2 * unit.kv_heads, unit.kv_heads, 32};
  const inf_llm mine = of_unit(unit);
  const std::size_t block = Codec::key_block_bytes(32) + Codec::value_block_bytes(32);
  const std::size_t frame = (unit.tokens + 15) / 16 * unit.kv_heads * wide.layers * block;
  auto ours = kvkeep::make_cache<Codec, Codec>(
      wide, mine, {.positions = rotary, .max_step = 2, .tiers = {.hot_bytes = 2 * frame, .path = place.at("kv")}});
  auto theirs = kvkeep::make_cache<Codec, Codec>(wide, mine, {.positions = rotary, .max_step = 2});
  for (std::size_t t = 0; t < mine.max_tokens; ++t) {
    const auto out = feed(ours, wide, 1);
    const auto expected = feed(theirs, wide, 1);
    for (std::size_t l = 0; l < wide.layers; ++l) ASSERT_LT(max_difference(out[l], expected[l]), 1e-5) << "token " << t;
  }
  EXPECT_GT(ours.memory().tiers().bytes_read, 0U);
}

TEST(UnitTiers, SmallUnitsAreReadBackFromTheirRecords) {
  for (const small_unit& unit : small_units) {
    expect_read_back<kvkeep::f32>(unit);
    expect_read_back<kvkeep::f16>(unit);
    expect_read_back<kvkeep::bf16>(unit);
    expect_read_back<kvkeep::int8>(unit);
    expect_read_back<kvkeep::int4>(unit);
    if (HasFatalFailure()) return;
  }
}

TEST(UnitTiers, TheFileIsPrivateAndGoesWithTheCache) {
  const temporary_directory place;
  const std::string path = place.at("kv");
  {
    auto cache = make(policy, {.hot_bytes = frames(2), .path = path});
    struct stat now {};
    ASSERT_EQ(::stat(path.c_str(), &now), 0);
    EXPECT_EQ(now.st_mode & 0777U, 0600U);
    feed(cache, shape, 40);
    feed(cache, shape, 40);
    feed(cache, shape, 40);
    EXPECT_GT(fs::file_size(path), 0U);
    EXPECT_LE(fs::file_size(path), cache.bytes().file);
    cache.clear();
    EXPECT_EQ(fs::file_size(path), 0U);
    auto moved = std::move(cache);
    EXPECT_TRUE(fs::exists(path));
  }
  EXPECT_FALSE(fs::exists(path));
  {
    auto cache = make(policy, {.hot_bytes = frames(2), .path = path});
    fs::remove(path);
    std::ofstream(path) << "somebody's";
  }
  EXPECT_TRUE(fs::exists(path)) << "what somebody else put there is not ours to remove";
}

template <class Made>
std::string fault(const Made& made) {
  return made ? "none" : made.error().message();
}
auto try_tiers(const unit_tiers& tiers) {
  return kvkeep::try_make_cache(shape, policy, {.positions = rotary, .max_step = 40, .tiers = tiers});
}

TEST(UnitTiers, APathHasOneCache) {
  const temporary_directory place;
  const std::string path = place.at("kv");
  auto first = make(policy, {.hot_bytes = frames(2), .path = path});
  auto alone = make(policy, {});
  const auto second = try_tiers({.hot_bytes = frames(2), .path = path});
  EXPECT_EQ(fault(second),
            "kvkeep: path = '" + path +
                "': File exists; allowed: a path in a directory that can be written to, at which there is "
                "nothing yet: every cache makes a file of its own");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), kvkeep::errc::io);
  EXPECT_EQ(second.error().argument(), "path");
  expect_the_same(first, alone, 7, 200, true);
}

// What a cache that was refused had begun with must not keep it from ending: memory is full of what would be a state of work.
TEST(UnitTiers, ACacheThatIsRefusedEnds) {
  const temporary_directory place;
  std::ofstream(place.at("kv")) << "somebody's";
  kvkeep::background_thread io;
  for (std::uint32_t state = 0; state < 5; ++state) {
    fill_new_memory(state);
    const auto refused = kvkeep::try_make_cache(
        shape, policy,
        {.positions = rotary,
         .max_step = 40,
         .max_shortened = 40,
         .tiers = {.hot_bytes = frames(3), .path = place.at("kv"), .read_ahead = 1, .background = io}});
    fill_new_memory({});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), kvkeep::errc::io);
  }
}

TEST(UnitTiers, AFileThatWasRemovedServesOn) {
  const temporary_directory place;
  auto cache = make(policy, {.hot_bytes = frames(2), .path = place.at("kv")});
  auto in_ram = make(policy, {});
  for (int i = 0; i < 9; ++i) {
    if (i == 3) fs::remove(place.at("kv"));
    EXPECT_LT(max_difference(feed(cache, shape, 40)[1], feed(in_ram, shape, 40)[1]), 1e-5);
  }
  EXPECT_GT(cache.memory().tiers().bytes_read, 0U);
  EXPECT_FALSE(fs::exists(place.at("kv")));
}

TEST(UnitTiers, RefusesPathsWhereNoFileCanBe) {
  const temporary_directory place;
  const auto at = [&](const std::string& path) { return fault(try_tiers({.hot_bytes = frames(2), .path = path})); };
  EXPECT_NE(at(place.at("no/kv")).find("No such file or directory"), std::string::npos);
  EXPECT_NE(at(place.path().string()).find("File exists"), std::string::npos);
  std::ofstream(place.at("file")) << "text";
  EXPECT_NE(at(place.at("file/kv")).find("Not a directory"), std::string::npos);
  EXPECT_NE(at(place.at("file")).find("File exists"), std::string::npos);
  EXPECT_EQ(fs::file_size(place.at("file")), 4U);
  fs::create_symlink(place.at("elsewhere"), place.at("link"));
  EXPECT_NE(at(place.at("link")).find("File exists"), std::string::npos);
  EXPECT_FALSE(fs::exists(place.at("elsewhere")));
  fs::create_directory(place.at("closed"));
  fs::permissions(place.at("closed"), fs::perms::owner_read);
  const bool root = ::geteuid() == 0;
  if (root) {
    fs::permissions(place.path(), fs::perms::all);
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const std::string message = at(place.at("closed/kv"));
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  EXPECT_NE(message.find("Permission denied"), std::string::npos) << message;
  fs::permissions(place.at("closed"), fs::perms::owner_all);
}

TEST(UnitTiers, RefusesWhatCannotBe) {
  const temporary_directory place;
  const std::string path = place.at("kv");
  const auto told = [](const unit_tiers& tiers) { return fault(try_tiers(tiers)); };
  kvkeep::background_thread io;
  const std::string idle = " is given, and tiers.hot_bytes = 0: all units lie in RAM";
  EXPECT_EQ(told({.path = path}), "kvkeep: tiers.path" + idle);
  EXPECT_EQ(told({.keeps = hot::fifo{}}), "kvkeep: tiers.keeps" + idle);
  EXPECT_EQ(told({.read_ahead = 1}), "kvkeep: tiers.read_ahead" + idle);
  EXPECT_EQ(told({.cold = kvkeep::cold_codec::of<kvkeep::bf16>()}), "kvkeep: tiers.cold" + idle);
  EXPECT_EQ(told({.background = io}), "kvkeep: tiers.background" + idle);
  EXPECT_EQ(told({.hot_bytes = frames(2)}),
            "kvkeep: tiers.path = ''; allowed: a path for the units that are not in RAM");
  EXPECT_EQ(told({.hot_bytes = frames(2) - 1, .path = path}),
            fmt::format("kvkeep: tiers.hot_bytes = {}; allowed: 0, or >= {}: what a query reads of units, in 2 layers",
                        frames(2) - 1, frames(2)));
  EXPECT_EQ(told({.hot_bytes = frames(2), .path = path, .keeps = hot::decayed{.decay = 1.5F}}),
            "kvkeep: tiers.keeps.decay = 1.5; allowed: 0 .. 1");
  EXPECT_EQ(told({.hot_bytes = frames(2), .path = path, .keeps = hot::decayed{.decay = std::nanf("")}}),
            "kvkeep: tiers.keeps.decay = nan; allowed: 0 .. 1");
  EXPECT_EQ(told({.hot_bytes = frames(2), .path = path, .read_ahead = 1}),
            "kvkeep: tiers.read_ahead = 1; allowed: 0 without tiers.background, which reads ahead");
  EXPECT_EQ(told({.hot_bytes = frames(2), .path = path, .read_ahead = 1, .background = io}),
            "kvkeep: tiers.read_ahead = 1; allowed: 0 where there is room for what a query reads only: 2 of 77 units");
  EXPECT_EQ(
      fault(kvkeep::try_make_cache(
          shape, inf_llm{.sinks = 3, .window = 12, .block_size = 5, .count = 2, .representatives = 2, .max_tokens = 19},
          {.positions = rotary, .tiers = {.hot_bytes = frames(2), .path = path}})),
      fmt::format("kvkeep: tiers.hot_bytes = {}; allowed: 0 where max_tokens = 19 fill no unit", frames(2)));
  EXPECT_EQ(told({.hot_bytes = frames(2), .path = path, .read_ahead = 65537, .background = io}),
            "kvkeep: tiers.read_ahead = 65537; allowed: 0 .. 65536");
  EXPECT_EQ(told({.hot_bytes = frames(2), .path = path, .cold = kvkeep::cold_codec::of<kvkeep::int8>()}),
            "kvkeep: head_dim = 8; allowed: a multiple of 32 for the codec int8");
  const auto window = kvkeep::try_make_cache(shape, kvkeep::streaming_llm{.sinks = 4, .window = 20},
                                             {.positions = rotary, .tiers = {.hot_bytes = frames(2), .path = path}});
  EXPECT_EQ(fault(window),
            fmt::format("kvkeep: tiers.hot_bytes = {}; allowed: 0: this policy retrieves no memory units", frames(2)));
  const auto keys =
      kvkeep::try_make_cache(shape, kvkeep::lm_infinite::middle{.sinks = 1, .window = 9, .max_tokens = 50},
                             {.positions = rotary, .tiers = {.hot_bytes = frames(2), .path = path}});
  EXPECT_FALSE(keys);
  EXPECT_FALSE(fs::exists(path)) << "nothing is left of what was refused";
}

/// No file of this process grows beyond some bytes.
class file_limit {
 public:
  explicit file_limit(std::size_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit now = before_;
    now.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  file_limit(const file_limit&) = delete;
  file_limit& operator=(const file_limit&) = delete;
  ~file_limit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

/// Feeds single tokens until begin fails, and returns why; both caches get them.
template <class Cache>
std::string feed_until_full(Cache& ours, Cache& theirs) {
  for (std::size_t t = 0; t < 300; ++t) {
    auto step = ours.try_begin(1);
    if (!step) return step.error().message();
    const position next = theirs.next_position();
    attend_all(*step, shape, next);
    step->commit();
    feed(theirs, shape, 1);
  }
  return "none";
}

// A full disk: writes fall short, then fail. Nothing is lost, and when there is room again the stream goes on.
TEST(UnitTiers, AFullDiskFailsBeginAndNothingIsLost) {
  kvkeep::background_thread io;
  for (const bool background : {false, true}) {
    SCOPED_TRACE(background);
    const temporary_directory place;
    unit_tiers tiers{.hot_bytes = frames(2), .path = place.at("kv")};
    if (background) tiers.background = io;
    auto ours = make(policy, tiers);
    auto theirs = make(policy, {});
    {
      const file_limit limit(filed_bytes * 5 + 100);  // the sixth unit does not fit whole
      const std::string why = feed_until_full(ours, theirs);
      EXPECT_NE(why.find("writing"), std::string::npos) << why;
      EXPECT_NE(why.find(place.at("kv")), std::string::npos) << why;
      EXPECT_EQ(ours.next_position(), theirs.next_position());
      EXPECT_EQ(ours.held(), theirs.held());
      EXPECT_FALSE(ours.try_begin(1));
      EXPECT_EQ(ours.try_begin(1).error().code(), kvkeep::errc::io);
    }
    expect_the_same(ours, theirs, 11, 150, true);
    if (HasFatalFailure()) return;
  }
}

/// Expects an error of the system's about a file, and that the caller is told which file and what the system said.
void expect_io(const kvkeep::error& e, std::string_view doing, const std::string& path, std::string_view text) {
  EXPECT_EQ(e.code(), kvkeep::errc::io);
  EXPECT_EQ(e.argument(), "path");
  EXPECT_NE(e.message().find(doing), std::string::npos) << e.message();
  EXPECT_NE(e.message().find(fmt::format("'{}': {}", path, text)), std::string::npos) << e.message();
}

// ENOSPC of the system: begin fails again and again, reads go on, and with room again the stream goes on as if nothing had been.
TEST(UnitTiers, NoSpaceLeftFailsBeginUntilThereIsSpace) {
  prompt_executor io;
  for (const bool background : {false, true}) {
    SCOPED_TRACE(background);
    const temporary_directory place;
    const std::string path = place.at("kv");
    const std::size_t open_before = open_files();
    {
      unit_tiers tiers{.hot_bytes = frames(2), .path = path};
      if (background) tiers.background = io;
      auto ours = make(policy, tiers);
      auto theirs = make(policy, {});
      for (int i = 0; i < 3; ++i) {
        feed(ours, shape, 40);
        feed(theirs, shape, 40);
      }
      const std::uintmax_t written = fs::file_size(path);
      EXPECT_GT(written, 0U);
      std::optional<full_disk> full;
      full.emplace(path);
      std::size_t steps = 0;
      for (; steps < 120; ++steps) {
        const position next = ours.next_position();
        auto step = ours.try_begin(1);
        if (!step) break;
        full.reset();  // what was filed before can be read
        attend_all(*step, shape, next);
        full.emplace(path);
        step->commit();
        feed(theirs, shape, 1);
      }
      ASSERT_LT(steps, 120U);
      for (int again = 0; again < 3; ++again) {
        const auto failed = ours.try_begin(1);
        ASSERT_FALSE(failed);
        expect_io(failed.error(), "writing", path, "No space left on device");
      }
      EXPECT_EQ(ours.next_position(), theirs.next_position());
      EXPECT_EQ(ours.held(), theirs.held());
      const auto cleared = ours.try_clear();
      ASSERT_FALSE(cleared) << "what cannot be emptied";
      EXPECT_EQ(cleared.error().code(), kvkeep::errc::io);
      EXPECT_NE(cleared.error().message().find(path), std::string::npos) << cleared.error().message();
      EXPECT_EQ(ours.held(), theirs.held());
      full.reset();
      expect_the_same(ours, theirs, 23, 150, true);
      if (HasFatalFailure()) return;
      EXPECT_GT(fs::file_size(path), written);
    }
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(open_files(), open_before);
  }
}

/// Feeds two caches 200 tokens.
template <class Cache>
void feed_both(Cache& ours, Cache& theirs) {
  for (int i = 0; i < 5; ++i) {
    feed(ours, shape, 40);
    feed(theirs, shape, 40);
  }
}

/// Attends a layer of an open step of single tokens.
template <class Step>
kvkeep::result<void> attend_one(Step& step, std::size_t layer, layer_rows& rows) {
  return step.try_attend(layer, view(std::as_const(rows.q), 1, 4, 8), view(std::as_const(rows.k), 1, 2, 8),
                         view(std::as_const(rows.v), 1, 2, 8), view(rows.out, 1, 4, 8));
}

// EIO of the system: attend fails, and the layer can be attended again, or the step left and begun anew.
TEST(UnitTiers, AReadThatFailsCanBeTriedAgain) {
  kvkeep::background_thread io;
  for (const bool background : {false, true}) {
    SCOPED_TRACE(background);
    const temporary_directory place;
    const std::string path = place.at("kv");
    const std::size_t open_before = open_files();
    std::size_t failures = 0;
    {
      unit_tiers tiers{.hot_bytes = frames(background ? 4 : 2), .path = path};
      if (background) {
        tiers.background = io;
        tiers.read_ahead = 2;
      }
      auto ours = make(policy, tiers);
      auto theirs = make(policy, {});
      feed_both(ours, theirs);
      // One token, of which no layer can be read at first; nothing, if the step is left for that.
      const auto feed_once = [&](bool leaves) {
        const position next = ours.next_position();
        std::vector<std::vector<float>> out;
        auto step = ours.begin(1);
        for (std::size_t l = 0; l < shape.layers; ++l) {
          layer_rows rows = rows_of(shape, l, next, 1);
          std::optional<broken_disk> broken(path);
          const auto ok = attend_one(step, l, rows);
          broken.reset();
          if (!ok) {
            ++failures;
            expect_io(ok.error(), "reading", path, "Input/output error");
            EXPECT_TRUE(step.open());
            EXPECT_FALSE(step.try_commit()) << "a layer is missing";
            if (leaves) return std::vector<std::vector<float>>{};
            EXPECT_TRUE(attend_one(step, l, rows));
          }
          out.push_back(rows.out);
        }
        step.commit();
        return out;
      };
      for (int t = 0; t < 60; ++t) {
        auto out = feed_once(t % 2 == 0);
        if (out.empty()) out = feed_once(false);
        const auto expected = feed(theirs, shape, 1);
        for (std::size_t l = 0; l < shape.layers; ++l) ASSERT_LT(max_difference(out[l], expected[l]), 1e-5);
      }
      EXPECT_GT(failures, 2U);
      EXPECT_EQ(ours.held(), theirs.held());
      expect_the_same(ours, theirs, 31, 100, true);
      if (HasFatalFailure()) return;
    }
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(open_files(), open_before);
  }
}

// EIO for good: the units that the errors name are erased one by one, until what is left is in RAM.
TEST(UnitTiers, UnitsThatCannotBeReadAnyMoreCanBeErased) {
  const temporary_directory place;
  auto ours = make(policy, {.hot_bytes = frames(4), .path = place.at("kv")});
  auto theirs = make(policy, {});
  feed_both(ours, theirs);
  const position next = ours.next_position();
  std::vector<std::vector<float>> out;
  std::size_t erased = 0;
  while (out.size() < shape.layers) {
    ASSERT_LT(erased, stream / policy.block_size);
    out.clear();
    std::string why;
    {
      auto step = ours.begin(1);
      const broken_disk broken(place.at("kv"));
      for (std::size_t l = 0; l < shape.layers && why.empty(); ++l) {
        layer_rows rows = rows_of(shape, l, next, 1);
        if (const auto ok = attend_one(step, l, rows); !ok) why = ok.error().message();
        if (why.empty()) out.push_back(rows.out);
      }
      if (why.empty()) step.commit();
    }
    if (why.empty()) break;
    const std::size_t at = why.find("(positions ");
    ASSERT_NE(at, std::string::npos) << why;
    long long first = -1;
    long long last = -1;
    ASSERT_EQ(std::sscanf(why.c_str() + at, "(positions %lld .. %lld, layer", &first, &last), 2) << why;
    EXPECT_EQ((first - 3) % 5, 0) << "where a unit begins";
    EXPECT_EQ(last - first, 4);
    ours.erase(first, last + 1);
    theirs.erase(first, last + 1);
    ++erased;
  }
  EXPECT_GT(erased, 0U);
  const auto expected = feed(theirs, shape, 1);
  for (std::size_t l = 0; l < shape.layers; ++l) EXPECT_LT(max_difference(out[l], expected[l]), 1e-5);
  expect_the_same(ours, theirs, 37, 100, true);
}

/// Overwrites or cuts a file that has all units of a cache which was fed 200 tokens, and feeds on.
template <class Damage>
void expect_found_out(const Damage& damage, const std::string& wanted, bool background) {
  kvkeep::background_thread io;
  const temporary_directory place;
  unit_tiers tiers{.hot_bytes = frames(background ? 4 : 2), .path = place.at("kv")};
  if (background) {
    tiers.background = io;
    tiers.read_ahead = 2;
  }
  auto ours = make(policy, tiers);
  auto theirs = make(policy, {});
  for (int i = 0; i < 5; ++i) {
    feed(ours, shape, 40);
    feed(theirs, shape, 40);
  }
  damage(place.at("kv"));
  std::size_t failures = 0;
  for (std::size_t t = 0; t < 150; ++t) {
    const position next = ours.next_position();
    bool failed = false;
    {
      auto step = ours.begin(1);
      std::vector<std::vector<float>> out;
      for (std::size_t l = 0; l < shape.layers && !failed; ++l) {
        layer_rows rows = rows_of(shape, l, next, 1);
        const auto ok = step.try_attend(l, view(std::as_const(rows.q), 1, 4, 8), view(std::as_const(rows.k), 1, 2, 8),
                                        view(std::as_const(rows.v), 1, 2, 8), view(rows.out, 1, 4, 8));
        out.push_back(rows.out);
        failed = !ok;
        if (ok) continue;
        EXPECT_EQ(ok.error().code(), kvkeep::errc::io);
        ASSERT_NE(ok.error().message().find(wanted), std::string::npos) << ok.error().message();
        EXPECT_TRUE(step.open());
        EXPECT_FALSE(step.try_commit()) << "a layer is missing";
      }
      if (!failed) {
        step.commit();
        const auto expected = feed(theirs, shape, 1);
        for (std::size_t l = 0; l < shape.layers; ++l) {
          ASSERT_LT(max_difference(out[l], expected[l]), 1e-5) << "token " << next;
        }
      }
    }
    if (!failed) continue;
    ++failures;
    ours.erase(3, 3 + 5 * 4);  // the units that were damaged
    theirs.erase(3, 3 + 5 * 4);
  }
  EXPECT_EQ(failures, 1U) << "what is erased is never read again";
  EXPECT_EQ(ours.next_position(), theirs.next_position());
}

TEST(UnitTiers, AChangedFileFailsAttendAndItsUnitsCanBeErased) {
  const auto change = [](const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (std::size_t unit = 0; unit < 4; ++unit) {
      for (std::size_t layer = 0; layer < shape.layers; ++layer) {
        file.seekg(static_cast<std::streamoff>(unit * filed_bytes + layer * filed_bytes / shape.layers + 17));
        const int was = file.get();
        file.seekp(static_cast<std::streamoff>(unit * filed_bytes + layer * filed_bytes / shape.layers + 17));
        file.put(static_cast<char>(was ^ 4));
      }
    }
  };
  expect_found_out(change, "are not what was written there", false);
  expect_found_out(change, "are not what was written there", true);
}

TEST(UnitTiers, AFileThatWasCutFailsAttend) {
  const temporary_directory place;
  auto ours = make(policy, {.hot_bytes = frames(2), .path = place.at("kv")});
  for (int i = 0; i < 5; ++i) feed(ours, shape, 40);
  const position next = ours.next_position();
  std::size_t failures = 0;
  for (int t = 0; t < 50 && failures == 0; ++t) {
    auto step = ours.begin(1);
    ASSERT_EQ(::truncate(place.at("kv").c_str(), 0), 0);
    layer_rows rows = rows_of(shape, 0, next, 1, static_cast<std::uint64_t>(t));
    const auto ok = step.try_attend(0, view(std::as_const(rows.q), 1, 4, 8), view(std::as_const(rows.k), 1, 2, 8),
                                    view(std::as_const(rows.v), 1, 2, 8), view(rows.out, 1, 4, 8));
    if (ok) continue;
    ++failures;
    EXPECT_NE(ok.error().message().find("the file ends before"), std::string::npos) << ok.error().message();
    EXPECT_NE(ok.error().message().find("(positions "), std::string::npos) << ok.error().message();
    EXPECT_NE(ok.error().message().find(", layer 0)"), std::string::npos) << ok.error().message();
  }
  EXPECT_EQ(failures, 1U);
  EXPECT_EQ(ours.next_position(), next);
  ours.clear();
  auto theirs = make(policy, {});
  expect_the_same(ours, theirs, 5, 200, true);
}

// A layer that failed can be attended again in the same step.
TEST(UnitTiers, ALayerThatFailedCanBeAttendedAgain) {
  const temporary_directory place;
  auto ours = make(policy, {.hot_bytes = frames(2), .path = place.at("kv")});
  auto theirs = make(policy, {});
  for (int i = 0; i < 5; ++i) {
    feed(ours, shape, 40);
    feed(theirs, shape, 40);
  }
  const std::string kept = place.at("copy");
  fs::copy_file(place.at("kv"), kept);
  const auto write = [&](const std::vector<char>& bytes) {
    const int file = ::open(place.at("kv").c_str(), O_WRONLY);
    ASSERT_GE(file, 0);
    EXPECT_EQ(::pwrite(file, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    ::close(file);
  };
  std::vector<char> good(fs::file_size(kept));
  std::ifstream(kept, std::ios::binary).read(good.data(), static_cast<std::streamsize>(good.size()));
  write(std::vector<char>(good.size(), 'x'));
  bool failed = false;
  for (int t = 0; t < 100; ++t) {
    const position next = ours.next_position();
    auto step = ours.begin(1);
    std::vector<std::vector<float>> out;
    for (std::size_t l = 0; l < shape.layers; ++l) {
      layer_rows rows = rows_of(shape, l, next, 1);
      const auto once = [&] {
        return step.try_attend(l, view(std::as_const(rows.q), 1, 4, 8), view(std::as_const(rows.k), 1, 2, 8),
                               view(std::as_const(rows.v), 1, 2, 8), view(rows.out, 1, 4, 8));
      };
      if (!once()) {
        failed = true;
        write(good);
        ASSERT_TRUE(once());
      }
      out.push_back(rows.out);
    }
    step.commit();
    const auto expected = feed(theirs, shape, 1);
    for (std::size_t l = 0; l < shape.layers; ++l) ASSERT_LT(max_difference(out[l], expected[l]), 1e-5);
    if (failed && t > 20) break;
  }
  EXPECT_TRUE(failed);
}

/// Changes the first bytes of all that a layer has in a file.
void damage(const std::string& path, std::size_t layer) {
  const std::size_t units = fs::file_size(path) / filed_bytes;
  const int file = ::open(path.c_str(), O_WRONLY);
  ASSERT_GE(file, 0);
  const std::vector<char> other(64, 'x');
  for (std::size_t u = 0; u < units; ++u) {
    const std::size_t at = u * filed_bytes + layer * filed_bytes / shape.layers;
    EXPECT_EQ(::pwrite(file, other.data(), other.size(), static_cast<off_t>(at)), 64);
  }
  ::close(file);
}

// A shortened commit attends once more; where that fails, whatever is committed next is right.
TEST(UnitTiers, AShortenedCommitThatFailedLeavesNothingBehind) {
  for (const std::size_t layer : {0U, 1U}) {
    for (const std::size_t count : {20U, 5U}) {
      SCOPED_TRACE(fmt::format("layer {}, then {} tokens", layer, count));
      const temporary_directory place;
      auto ours = make(policy, {.hot_bytes = frames(2), .path = place.at("kv")});
      auto theirs = make(policy, {});
      for (int i = 0; i < 5; ++i) {
        feed(ours, shape, 40);
        feed(theirs, shape, 40);
      }
      const position next = ours.next_position();
      auto a = ours.begin(20, kvkeep::may_shorten);
      auto b = theirs.begin(20, kvkeep::may_shorten);
      attend_all(a, shape, next);
      attend_all(b, shape, next);
      fs::copy_file(place.at("kv"), place.at("good"));
      damage(place.at("kv"), layer);
      const auto failed = a.try_commit(3);
      ASSERT_FALSE(failed);
      EXPECT_EQ(failed.error().code(), kvkeep::errc::io);
      EXPECT_TRUE(a.open());
      fs::copy_file(place.at("good"), place.at("kv"), fs::copy_options::overwrite_existing);
      a.commit(count);
      b.commit(count);
      for (std::size_t l = 0; l < shape.layers; ++l) {
        for (const position at : ours.held()) {
          ASSERT_NEAR(*ours.memory().try_window_sum(l, 1, at), *theirs.memory().try_window_sum(l, 1, at), 1e-5);
        }
        const auto mine = ours.memory().retrieved(l);
        const auto wanted = theirs.memory().retrieved(l);
        EXPECT_TRUE(std::equal(mine.begin(), mine.end(), wanted.begin(), wanted.end()));
      }
    }
  }
}

using bare_cache = kvkeep::detail::cache_core<inf_llm, kvkeep::f32, kvkeep::f32>;

/// One token; its query is not a number, if so asked.
void feed_bare(bare_cache& core, bool nan = false) {
  const position next = core.plan.next_position();
  ASSERT_TRUE(core.begin(1));
  for (std::size_t l = 0; l < core.shape.layers; ++l) {
    layer_rows rows = rows_of(core.shape, l, next, 1);
    if (nan) rows.q[0] = std::nanf("");
    ASSERT_TRUE(core.attend(l, view(std::as_const(rows.q), 1, 4, 8), view(std::as_const(rows.k), 1, 2, 8),
                            view(std::as_const(rows.v), 1, 2, 8), view(rows.out, 1, 4, 8), {}));
  }
  ASSERT_TRUE(core.commit(1, {}));
}

TEST(UnitTiers, ScoresAreThoseOfTheirLayer) {
  const temporary_directory place;
  constexpr kvkeep::model_shape three{3, 4, 2, 8};
  const auto scores = [&](std::size_t last_layer) {
    inf_llm mine = policy;
    mine.last_layer = last_layer;
    auto core =
        *bare_cache::try_make(three, mine,
                              {.positions = rotary,
                               .max_step = 40,
                               .tiers = {.hot_bytes = 1U << 20U, .path = place.at("kv"), .keeps = hot::decayed{}}});
    for (int t = 0; t < 100; ++t) feed_bare(*core);
    std::vector<double> out;
    for (std::size_t f = 0; f < 10; ++f) out.push_back(core->memory.tiers.hot.of(0)[f].value);
    return out;
  };
  const auto all = scores(3);
  EXPECT_GT(*std::max_element(all.begin(), all.end()), 0.01);
  EXPECT_LT(max_difference(scores(1), all), 1e-6) << "layers that retrieve nothing add nothing";
}

TEST(UnitTiers, QueriesThatAreNotFiniteDoNotSpoilScores) {
  const temporary_directory place;
  auto core =
      *bare_cache::try_make(shape, policy,
                            {.positions = rotary,
                             .max_step = 40,
                             .tiers = {.hot_bytes = frames(6), .path = place.at("kv"), .keeps = hot::decayed{}}});
  for (int t = 0; t < 160; ++t) feed_bare(*core, t >= 150);
  for (const auto& frame : core->memory.tiers.hot.of(0)) EXPECT_FALSE(std::isnan(frame.value));
}

// Tokens that are pending at the end of a stream fill no unit.
TEST(UnitTiers, PendingTokensOfTheAuthorsHaveNoScore) {
  const temporary_directory place;
  const inf_llm::published mine{.n_init = 3,
                                .n_local = 12,
                                .block_size = 5,
                                .topk = 2,
                                .repr_topk = 2,
                                .exc_block_size = 9,
                                .max_tokens = 404,
                                .pending = kvkeep::pending_mask::authors};
  auto ours = make(mine, {.hot_bytes = frames(2), .path = place.at("kv"), .keeps = hot::decayed{}});
  auto theirs = make(mine, {});
  for (int i = 0; i < 10; ++i) {
    feed(ours, shape, 40);
    feed(theirs, shape, 40);
  }
  const auto out = feed(ours, shape, 4);
  const auto expected = feed(theirs, shape, 4);
  for (std::size_t l = 0; l < shape.layers; ++l) EXPECT_LT(max_difference(out[l], expected[l]), 1e-5);
}

/// Takes some tasks, which it runs at once, and then none.
struct tired_executor {
  int left = 3;
  void submit(kvkeep::background_task task) {
    if (left-- <= 0) throw std::bad_alloc();
    task();
  }
};

TEST(UnitTiers, AnExecutorThatTakesNoTaskCostsNothingButTime) {
  const temporary_directory place;
  tired_executor io;
  auto ours = make(policy, {.hot_bytes = frames(4), .path = place.at("kv"), .read_ahead = 1, .background = io});
  auto theirs = make(policy, {});
  expect_the_same(ours, theirs, 77, 300, true);
}

TEST(UnitTiers, ARelativePathIsThatOfTheDirectoryWhereTheCacheWasMade) {
  const temporary_directory place;
  const fs::path before = fs::current_path();
  fs::current_path(place.path());
  {
    auto cache = make(policy, {.hot_bytes = frames(2), .path = "kv"});
    fs::current_path(before);
    EXPECT_TRUE(fs::exists(place.at("kv")));
  }
  EXPECT_FALSE(fs::exists(place.at("kv")));
}

TEST(UnitTiers, TheChecksumSeesEveryByte) {
  for (const std::size_t size : {1U, 31U, 32U, 33U, 100U}) {
    std::vector<std::byte> bytes(size, std::byte{7});
    const std::uint64_t before = kvkeep::detail::checksum(bytes);
    for (std::byte& b : bytes) {
      b ^= std::byte{1};
      EXPECT_NE(kvkeep::detail::checksum(bytes), before);
      b ^= std::byte{1};
    }
    bytes.push_back(std::byte{0});
    EXPECT_NE(kvkeep::detail::checksum(bytes), before);
  }
}

}  // namespace
}  // namespace kvkeep_test
