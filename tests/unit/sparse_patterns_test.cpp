// The sparse patterns as sets: what they read, who still needs what, and what is freed when.
#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <set>

#include "kvkeep/kvkeep.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::pattern_parts;
using kvkeep::position;
using set = std::set<position>;

constexpr pattern_parts all_parts[] = {pattern_parts::merged, pattern_parts::by_layer, pattern_parts::by_head};

/// A(i) of one variant of a pattern.
template <class Pattern>
set reads_of(const Pattern& p, position i, std::size_t variant = 0) {
  set found;
  for (position j = 0; j <= i; ++j) {
    if constexpr (requires { p.variants(); }) {
      if (p.reads(variant, i, j)) found.insert(j);
    } else {
      if (p.reads(i, j)) found.insert(j);
    }
  }
  return found;
}

template <class Pattern>
std::size_t variants_of(const Pattern& p) {
  if constexpr (requires { p.variants(); }) return p.variants();
  return 1;
}

set united(const set& a, const set& b) {
  set all = a;
  all.insert(b.begin(), b.end());
  return all;
}

/// Calls f(pattern) for patterns of many parameters.
template <class F>
void for_each_pattern(const F& f) {
  using namespace kvkeep;
  for (const pattern_parts parts : all_parts) {
    for (const std::size_t l : {1U, 2U, 4U, 5U, 16U, 200U}) {
      for (const strided_band w : {strided_band::paper, strided_band::kernel}) f(strided{l, w, parts});
      for (const std::size_t c : {1U, 2U, 5U}) {
        for (const std::size_t s : {1U, 2U, 3U}) {
          if (c * s <= l) f(fixed{l, c, s, parts});
        }
      }
    }
  }
  for (const std::size_t window : {1U, 2U, 3U, 7U}) {
    f(log_sparse{window});
    for (const std::size_t restart : {7U, 16U, 33U}) {
      f(log_sparse{window, restart, log_restarts::segments});
      f(log_sparse{window, restart, log_restarts::repeated});
    }
  }
  f(log_sparse{1, 1, log_restarts::segments});
}

TEST(SparsePatterns, AreThoseOfTheWorkedExamples) {
  using namespace kvkeep;
  for (const strided_band w : {strided_band::paper, strided_band::kernel}) {
    EXPECT_EQ(reads_of(strided{4, w}, 11), (set{3, 7, 8, 9, 10, 11}));
    EXPECT_EQ(reads_of(strided{4, w, pattern_parts::by_layer}, 11, 1), (set{3, 7, 11}));
  }
  EXPECT_EQ(reads_of(strided{4, strided_band::paper, pattern_parts::by_head}, 11), (set{7, 8, 9, 10, 11}));
  EXPECT_EQ(reads_of(strided{4, strided_band::kernel, pattern_parts::by_head}, 11), (set{8, 9, 10, 11}));
  EXPECT_EQ(reads_of(fixed{4, 1}, 10), (set{3, 7, 8, 9, 10}));
  EXPECT_EQ(reads_of(fixed{4, 1}, 11), (set{3, 7, 8, 9, 10, 11}));
  EXPECT_EQ(reads_of(fixed{4, 1}, 12), (set{3, 7, 11, 12}));
  EXPECT_EQ(reads_of(fixed{4, 1, 1, pattern_parts::by_layer}, 10, 0), (set{8, 9, 10}));
  EXPECT_EQ(reads_of(fixed{4, 1, 1, pattern_parts::by_layer}, 10, 1), (set{3, 7, 10})) << "A2, and itself";
  EXPECT_EQ(reads_of(fixed{4, 1, 3}, 10, 1), (set{2, 6, 8, 9, 10})) << "the second sub-block from the end";
  EXPECT_EQ(reads_of(fixed{4, 1, 3, pattern_parts::by_head}, 10, 3), (set{1, 5, 9, 10})) << "the third";
  EXPECT_EQ(reads_of(log_sparse{}, 8), (set{0, 4, 6, 7, 8}));
  EXPECT_EQ(reads_of(log_sparse{}, 9), (set{1, 5, 7, 8, 9}));
  EXPECT_EQ(reads_of(log_sparse{}, 10), (set{2, 6, 8, 9, 10}));
  EXPECT_EQ(reads_of(log_sparse{3}, 12), (set{2, 6, 8, 9, 10, 11, 12})) << "a window of 3, then 1, 2, 4, 8 before it";
  EXPECT_EQ(reads_of(log_sparse{1, 6}, 12), (set{12}));
  EXPECT_EQ(reads_of(log_sparse{1, 6}, 17), (set{13, 15, 16, 17}));
  EXPECT_EQ(reads_of(log_sparse{2, 6, kvkeep::log_restarts::repeated}, 17),
            (set{0, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15, 16, 17}))
      << "ages 0, 1, 2, 3, 5 of every six";
}

TEST(SparsePatterns, HaveTheSizesOfTheirFormulas) {
  using namespace kvkeep;
  for (position i = 0; i < 70; ++i) {
    for (const position l : {1, 3, 4, 8}) {
      const auto stride = static_cast<std::size_t>(l);
      const auto size = static_cast<position>(reads_of(strided{stride}, i).size());
      EXPECT_EQ(size, std::min(i, l) + 1 + i / l - (i >= l ? 1 : 0)) << "stride " << l << ", i " << i;
    }
    if (i >= 1) {
      EXPECT_EQ(reads_of(log_sparse{}, i).size(), std::bit_width(static_cast<std::uint64_t>(i)) + 1U);
    }
    const set merged = reads_of(fixed{5, 2}, i);
    EXPECT_EQ(static_cast<position>(merged.size()), i % 5 + 1 + i / 5 * 2) << "columns of its own block once";
  }
}

TEST(SparsePatterns, ReadTheQueryItselfAndNothingOfOtherParts) {
  for_each_pattern([](const auto& p) {
    for (std::size_t v = 0; v < variants_of(p); ++v) {
      for (position i = 0; i < 70; ++i) EXPECT_EQ(reads_of(p, i, v).count(i), 1U);
    }
  });
  using namespace kvkeep;
  for (position i = 0; i < 70; ++i) {
    const strided s{6, strided_band::paper, pattern_parts::by_layer};
    EXPECT_EQ(united(reads_of(s, i, 0), reads_of(s, i, 1)), reads_of(strided{6}, i));
    const fixed f{7, 2, 3, pattern_parts::by_head};
    for (std::size_t sub = 0; sub < 3; ++sub) {
      EXPECT_EQ(united(reads_of(f, i, 0), reads_of(f, i, 1 + sub)), reads_of(fixed{7, 2, 3}, i, sub));
    }
  }
}

TEST(SparsePatterns, AreDenseWhereTheWindowIsWideEnough) {
  using namespace kvkeep;
  set all;
  for (position i = 0; i < 50; ++i) {
    all.insert(i);
    EXPECT_EQ(reads_of(strided{50}, i), all);
    EXPECT_EQ(reads_of(strided{1}, i), all);
    EXPECT_EQ(reads_of(fixed{50, 1}, i), all);
    EXPECT_EQ(reads_of(fixed{5, 5}, i), all);
    EXPECT_EQ(reads_of(log_sparse{50}, i), all);
  }
}

TEST(SparsePatterns, PutVariantsWhereThePaperDoes) {
  using namespace kvkeep;
  const strided layers{4, strided_band::paper, pattern_parts::by_layer};
  const strided heads{4, strided_band::paper, pattern_parts::by_head};
  const fixed merged{8, 2, 3};
  const fixed by_layer{8, 2, 3, pattern_parts::by_layer};
  const fixed by_head{8, 2, 3, pattern_parts::by_head};
  for (std::size_t l = 0; l < 5; ++l) {
    for (std::size_t h = 0; h < 12; ++h) {
      EXPECT_EQ(strided{}.variant({l, h}), 0U);
      EXPECT_EQ(layers.variant({l, h}), l % 2);
      EXPECT_EQ(heads.variant({l, h}), h % 2);
      EXPECT_EQ(merged.variant({l, h}), h % 3);
      EXPECT_EQ(by_layer.variant({l, h}), l % 2 == 0 ? 0 : 1 + h % 3);
      EXPECT_EQ(by_head.variant({l, h}), h % 2 == 0 ? 0 : 1 + h / 2 % 3);
    }
  }
}

/// What some query i, i + 1, ... < end reads of the tokens 0 .. i.
template <class Pattern>
set needed_of(const Pattern& p, position i, std::size_t variant, position end) {
  set all;
  for (position q = i; q < end; ++q) {
    for (const position j : reads_of(p, q, variant)) {
      if (j <= i) all.insert(j);
    }
  }
  return all;
}

/// still_read's promises against a search through all queries: who the last reader is, and how many are needed at once.
template <class Pattern>
void check_needs(const Pattern& p, position length) {
  const kvkeep::detail::pattern_view<Pattern> view{p};
  constexpr position beyond = 40;  // no pattern here looks farther once it has stopped reading a key
  for (std::size_t v = 0; v < variants_of(p); ++v) {
    if (view.needs(v) == kvkeep::pattern_need::everything) continue;
    for (position begin = 0; begin < 8; ++begin) {  // streams may begin anywhere
      std::size_t most = 0;
      for (position i = begin; i < begin + length; ++i) {
        set needed = needed_of(p, i, v, i + beyond);
        std::erase_if(needed, [&](position j) { return j < begin; });
        most = std::max(most, needed.size());
        for (position j = begin; j <= i; ++j) {
          ASSERT_EQ(view.needed(v, j, i, 0), needed.count(j) == 1) << "token " << j << " at " << i << ", variant " << v;
        }
      }
      EXPECT_LE(most, view.most_needed(v, static_cast<std::size_t>(length)));
      if (begin == 0 && std::is_same_v<Pattern, kvkeep::strided>) {
        EXPECT_EQ(most, view.most_needed(v, static_cast<std::size_t>(length)));
      }
    }
  }
}

TEST(SparsePatterns, KnowWhoReadsATokenLast) {
  using namespace kvkeep;
  for (const pattern_parts parts : all_parts) {
    check_needs(strided{3, strided_band::paper, parts}, 30);
    check_needs(strided{3, strided_band::kernel, parts}, 30);
    check_needs(fixed{4, 1, 1, parts}, 30);
    check_needs(fixed{7, 2, 3, parts}, 30);
    check_needs(fixed{1, 1, 1, parts}, 10);
  }
  check_needs(log_sparse{1, 8}, 30);
  check_needs(log_sparse{3, 13}, 30);
  check_needs(log_sparse{5, 5}, 30);
}

TEST(SparsePatterns, AreEvictableOrSayThatTheyAreNot) {
  using namespace kvkeep;
  // Not nested: a later query reads what the one before did not, of every token, again and again.
  for_each_pattern([](const auto& p) {
    const kvkeep::detail::pattern_view<std::remove_cvref_t<decltype(p)>> view{p};
    for (std::size_t v = 0; v < variants_of(p); ++v) {
      if (view.needs(v) != pattern_need::everything) continue;
      EXPECT_EQ(needed_of(p, 20, v, 560).size(), 21U);
      EXPECT_EQ(needed_of(p, 210, v, 560).size(), 211U);
    }
  });
  const auto fault = [](const auto& rule) { return rule.check() ? "none" : rule.check().error().message(); };
  const std::string strided_fault = fault(still_read{strided{4}, 100});
  EXPECT_NE(strided_fault.find("A2 of strided reads every token again"), std::string::npos) << strided_fault;
  EXPECT_NE(strided_fault.find("keep_all{max_tokens}"), std::string::npos) << strided_fault;
  EXPECT_NE(fault(still_read{strided{4, strided_band::paper, pattern_parts::by_layer}, 100}), "none");
  const std::string log_fault = fault(still_read{log_sparse{}, 100});
  EXPECT_NE(log_fault.find("log_sparse without segments"), std::string::npos) << log_fault;
  EXPECT_NE(fault(still_read{log_sparse{1, 8, log_restarts::repeated}, 100}), "none");
  EXPECT_EQ(fault(still_read{log_sparse{1, 8}}), "none");
  EXPECT_EQ(fault(still_read{fixed{4, 1}, 100}), "none");
  EXPECT_EQ(fault(still_read{strided{4}, 100, endless::kept}), "none");
  const auto planner = try_make_planner({2, 2, 2, 8}, policy{still_read{strided{4}, 100}, strided{4}});
  ASSERT_FALSE(planner);
  EXPECT_EQ(planner.error().argument(), "still_read.pattern");
}

TEST(StillRead, FreesATokenWithItsLastReader) {
  auto plan = kvkeep::make_planner({1, 1, 1, 8}, kvkeep::sparse_fixed{.block = 4, .columns = 1, .max_tokens = 64});
  std::vector<position> dropped;
  for (position i = 0; i <= 12; ++i) {
    plan.begin(1);
    plan.commit();
    for (const auto& d : plan.last().dropped) dropped.push_back(d.at);
    if (i == 11) {
      EXPECT_EQ(plan.held(), (std::vector<position>{3, 7, 8, 9, 10, 11}));
      EXPECT_EQ(plan.next_held(), (std::vector<position>{3, 7, 11})) << "8, 9, 10 leave when token 12 comes";
      dropped.clear();
    }
  }
  EXPECT_EQ(dropped, (std::vector<position>{8, 9, 10}));
  EXPECT_EQ(plan.held(), (std::vector<position>{3, 7, 11, 12}));
}

/// Holds, in every unit and after every step, exactly what queries up to `end` read; tells what a unit holds at most.
template <class Policy, class Pattern>
void holds_what_is_needed(const Policy& policy, const Pattern& p, position first, bool keeps_rest) {
  const kvkeep::model_shape shape{3, 12, 6, 8};
  auto plan = kvkeep::make_planner(shape, policy, {.max_step = 9, .first_position = first});
  for (std::size_t n = 1; plan.next_position() < first + 60; n = n % 9 + 1) {
    plan.begin(n);
    const std::size_t count = n > 4 ? n - 2 : n;
    plan.commit(count);
    const position i = plan.next_position() - 1;
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      for (std::size_t head = 0; head < shape.kv_heads; ++head) {
        std::size_t v = 0;
        if constexpr (requires { p.variants(); }) v = p.variant({layer, head});
        const std::vector<position> held = plan.held(plan.unit_of(layer, head));
        set expected = needed_of(p, i, v, i + 30);
        if (keeps_rest && kvkeep::detail::pattern_view<Pattern>{p}.needs(v) == kvkeep::pattern_need::everything) {
          for (position j = 0; j <= i; ++j) expected.insert(j);
        }
        std::erase_if(expected, [&](position j) { return j < first; });
        ASSERT_EQ(set(held.begin(), held.end()), expected) << "layer " << layer << ", head " << head << " at " << i;
        ASSERT_LE(held.size(), plan.capacity(plan.unit_of(layer, head)));
      }
    }
  }
}

TEST(StillRead, KeepsInEveryUnitWhatIsNeededThere) {
  using namespace kvkeep;
  for (const position first : {position{0}, position{5}}) {
    for (const pattern_parts parts : all_parts) {
      for (const std::size_t subs : {1U, 3U}) {
        const sparse_fixed f{.block = 7, .columns = 2, .sub_blocks = subs, .parts = parts, .max_tokens = 80};
        holds_what_is_needed(f, f.pattern(), first, false);
      }
      const sparse_strided s{.stride = 5, .parts = parts, .max_tokens = 80};
      holds_what_is_needed(s, s.pattern(), first, true);
    }
    const log_sparse_attention segments{.window = 2, .restart = 11};
    holds_what_is_needed(segments, segments.pattern(), first, true);
    const log_sparse_attention whole{.window = 2, .max_tokens = 80};
    holds_what_is_needed(whole, whole.pattern(), first, true);
  }
}

TEST(StillRead, TakesUnitsAndMemoryByItsParts) {
  using namespace kvkeep;
  const model_shape shape{4, 8, 4, 8};
  const auto capacities = [&](const auto& preset) {
    const auto plan = make_planner(shape, preset);
    std::vector<std::size_t> all;
    for (std::size_t u = 0; u < plan.units(); ++u) all.push_back(plan.capacity(u));
    return all;
  };
  using counts = std::vector<std::size_t>;
  EXPECT_EQ(capacities(sparse_strided{.stride = 10, .max_tokens = 1000}), (counts{1000}));
  EXPECT_EQ(capacities(sparse_strided{.stride = 10, .parts = pattern_parts::by_layer, .max_tokens = 1000}),
            (counts{11, 1000, 11, 1000}));
  EXPECT_EQ(capacities(sparse_strided{
                .stride = 10, .band = strided_band::kernel, .parts = pattern_parts::by_layer, .max_tokens = 1000}),
            (counts{10, 1000, 10, 1000}));
  EXPECT_EQ(capacities(sparse_strided{.stride = 10, .parts = pattern_parts::by_head, .max_tokens = 1000}).size(), 16U);
  EXPECT_EQ(capacities(sparse_fixed{.block = 10, .columns = 2, .max_tokens = 1000}), (counts{10 + 99 * 2}));
  EXPECT_EQ(capacities(sparse_fixed{.block = 10, .columns = 2, .parts = pattern_parts::by_layer, .max_tokens = 1000}),
            (counts{10, 1 + 99 * 2 + 2, 10, 1 + 99 * 2 + 2}));
  EXPECT_EQ(capacities(sparse_fixed{.block = 10, .columns = 2, .sub_blocks = 4, .max_tokens = 1000}),
            counts(16, 10 + 99 * 2))
      << "every head its own columns only";
  EXPECT_EQ(capacities(log_sparse_attention{.restart = 64}), (counts{64}));
  EXPECT_EQ(capacities(log_sparse_attention{.restart = 64, .max_tokens = 20}), (counts{20}));
  EXPECT_EQ(capacities(log_sparse_attention{.max_tokens = 500}), (counts{500}));
  const auto bytes = [&](pattern_parts parts) {
    return cache_bytes_of(shape, sparse_strided{.stride = 64, .parts = parts, .max_tokens = 4096}).keys;
  };
  EXPECT_LT(bytes(pattern_parts::by_layer), bytes(pattern_parts::merged) * 2 / 3) << "half the layers keep 65 of 4096";
  EXPECT_LT(bytes(pattern_parts::by_head), bytes(pattern_parts::merged) * 2 / 3);
}

}  // namespace
}  // namespace kvkeep_test
