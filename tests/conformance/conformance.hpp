// The contract of every policy in executable form, for the planner alone and for the cache.
//
// An engine with memory of its own is simulated beside the planner: it writes, copies and frees rows as the plan says and
// must at any time find every held token where the planner says it is.
#ifndef KVKEEP_TESTS_CONFORMANCE_CONFORMANCE_HPP
#define KVKEEP_TESTS_CONFORMANCE_CONFORMANCE_HPP

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "../support/cases.hpp"

namespace kvkeep_test {

/// What one query reads: distances by stream position.
using read_set = std::map<position, position>;

template <class Planner>
read_set reads_of(Planner& plan, std::size_t query) {
  const kvkeep::query_view view = plan.view(0, query);
  read_set found;
  for (const kvkeep::key_span& span : view.spans) {
    for (std::size_t r = 0; r < 16; ++r) {
      if ((span.mask >> r & 1U) == 0) continue;
      const std::size_t s = span.block * 16 + r;
      EXPECT_TRUE(found.emplace(plan.position_of(kvkeep::to_slot(s)), view.distance[s]).second) << "read twice";
    }
  }
  EXPECT_EQ(found.size(), view.keys);
  return found;
}

/// The positions of some slots.
template <class Planner>
std::vector<position> positions_of(const Planner& plan, std::span<const kvkeep::slot> slots) {
  std::vector<position> found;
  for (const kvkeep::slot s : slots) found.push_back(plan.position_of(s));
  return found;
}

/// An engine's own memory: which token's row lies in which slot.
class engine_memory {
 public:
  template <class Planner>
  void write(const Planner& plan, position first) {
    std::size_t t = 0;
    for (const kvkeep::slot s : plan.new_slots(0)) row_[kvkeep::index(s)] = first + static_cast<position>(t++);
  }
  void follow(const kvkeep::unit_plan& plan) {
    // Any order must do: here all reads come before all writes.
    std::set<std::size_t> targets;
    std::vector<position> copied;
    for (const auto& m : plan.moves) copied.push_back(row_[kvkeep::index(m.from)]);
    for (std::size_t i = 0; i < plan.moves.size(); ++i) {
      EXPECT_TRUE(targets.insert(kvkeep::index(plan.moves[i].to)).second) << "two rows to one slot";
      row_[kvkeep::index(plan.moves[i].to)] = copied[i];
    }
    for (const auto& m : plan.moves) EXPECT_EQ(targets.count(kvkeep::index(m.from)), 0U) << "a row moves twice";
    for (const auto& b : plan.freed) {
      for (std::size_t r = 0; r < 16; ++r) row_[kvkeep::index(b) * 16 + r] = -1;
    }
  }
  template <class Planner>
  void check(const Planner& plan) const {
    std::set<std::size_t> blocks;
    for (const kvkeep::slot s : plan.held_slots()) {
      EXPECT_EQ(row_.at(kvkeep::index(s)), plan.position_of(s));
      blocks.insert(kvkeep::index(s) / 16);
    }
    EXPECT_EQ(blocks.size(), plan.block_count());
    EXPECT_LE(blocks.size(), (plan.held_count() + 15) / 16 + 1);
  }

 private:
  std::map<std::size_t, position> row_;
};

/// Runs a policy's planner through random steps and checks what every policy promises.
template <class Policy>
void conforms(const std::string& name, const Policy& policy, std::uint64_t seed) {
  SCOPED_TRACE(name);
  constexpr kvkeep::model_shape shape{1, 1, 1, 4};
  const kvkeep::planner_options options{.max_step = 20, .first_position = 7};
  auto plan = kvkeep::make_planner(shape, policy, options);
  auto twin = kvkeep::make_planner(shape, policy, options);
  engine_memory memory;
  dice random(seed);
  std::set<position> gone;
  std::map<position, position> index_before;

  for (int i = 0; i < 120; ++i) {
    const position first = plan.next_position();
    const std::size_t n = random.between(1, 20);
    const std::size_t count = random.chance(0.7) ? n : random.between(0, n);
    const std::vector<position> before = plan.held();
    plan.begin(n);
    memory.write(plan, first);
    std::vector<position> in_step = before;
    for (std::size_t t = 0; t < n; ++t) in_step.push_back(first + static_cast<position>(t));
    EXPECT_EQ(positions_of(plan, plan.step_slots(0)), in_step);
    read_set last;
    for (std::size_t t = 0; t < n; ++t) {
      const read_set reads = reads_of(plan, t);
      const position query = first + static_cast<position>(t);
      ASSERT_TRUE(reads.count(query)) << "every query reads itself";
      EXPECT_EQ(reads.at(query), 0) << "at distance 0";
      EXPECT_LE(reads.rbegin()->first, query) << "and nothing newer";
      EXPECT_LE(reads.size(), plan.capacity() + n);
      for (const auto& [key, away] : reads) {
        EXPECT_GE(away, 0);
        EXPECT_EQ(gone.count(key), 0U) << "what was dropped is not read again";
      }
      if (t + 1 == count) last = reads;
    }
    plan.commit(count);
    memory.follow(count > 0 ? plan.last() : kvkeep::unit_plan{});
    memory.check(plan);
    const std::vector<position> held = plan.held();
    EXPECT_LE(held.size(), plan.capacity());
    EXPECT_TRUE(std::is_sorted(held.begin(), held.end()));
    if (count == 0) {
      EXPECT_EQ(held, before) << "an abandoned step did not happen";
      continue;
    }
    // The plan speaks of exactly what went, and its shifts are the differences of cache indices.
    std::vector<position> expected = before;
    for (std::size_t t = 0; t < count; ++t) expected.push_back(first + static_cast<position>(t));
    std::map<position, position> index_of;
    for (std::size_t j = 0; j < expected.size(); ++j) index_of[expected[j]] = static_cast<position>(j);
    for (const auto& d : plan.last().dropped) {
      gone.insert(d.at);
      EXPECT_EQ(std::erase(expected, d.at), 1U);
    }
    EXPECT_EQ(held, expected);
    std::map<position, position> shifted;
    for (const auto& s : plan.last().shifts) {
      for (const position p : held) {
        if (p >= s.first && p <= s.last) shifted[p] = s.delta;
      }
    }
    for (std::size_t j = 0; j < held.size(); ++j) {
      EXPECT_EQ(static_cast<position>(j) - index_of[held[j]], shifted.count(held[j]) ? shifted[held[j]] : 0);
    }
    // "Next" is what a query in a step of one token finds.
    plan.begin(1);
    read_set found = reads_of(plan, 0);
    found.erase(plan.next_position());
    plan.abort();
    std::vector<position> keys;
    for (const auto& [key, away] : found) keys.push_back(key);
    const std::vector<position> next = plan.next_held();
    if (std::is_same_v<std::remove_cvref_t<decltype(Policy{policy}.rules().select)>, kvkeep::read_all>) {
      EXPECT_EQ(keys, next);
    } else {  // it may leave tokens to later queries
      EXPECT_TRUE(std::includes(next.begin(), next.end(), keys.begin(), keys.end()));
    }
    // A twin that saw only the committed tokens decides the same.
    twin.begin(count);
    if (count > 0) {
      const read_set same = reads_of(twin, count - 1);
      if (Policy{policy}.rules().when.chunk_invariant || count == n) {
        EXPECT_EQ(same, last);
      }
    }
    twin.commit();
    EXPECT_EQ(twin.held(), held);
    if (random.chance(0.3)) {
      const position last_erased = plan.next_position() - static_cast<position>(random.between(0, 20));
      const position first_erased = std::max<position>(7, last_erased - static_cast<position>(random.between(0, 9)));
      plan.erase(first_erased, std::max(first_erased, last_erased));
      twin.erase(first_erased, std::max(first_erased, last_erased));
      for (const auto& d : plan.last().dropped) gone.insert(d.at);
      memory.follow(plan.last());
      memory.check(plan);
    }
    if (::testing::Test::HasFailure()) return;
  }
}

/// Policies that say they are chunk-invariant give the same however the stream is cut: sets, distances and outputs.
template <class Codecs, class Policy>
void chunk_invariant(const std::string& name, const Policy& policy, const kvkeep::position_encoding& encoding,
                     std::uint64_t seed) {
  if constexpr (std::remove_cvref_t<decltype(policy.rules().when)>::chunk_invariant) {
    SCOPED_TRACE(name);
    constexpr kvkeep::model_shape shape{2, 4, 2, Codecs::head_dim};
    const kvkeep::cache_options options{.positions = encoding, .max_step = 64};
    auto one = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
    std::vector<std::vector<std::vector<float>>> expected;  // [token][layer][query_heads * head_dim]
    for (int t = 0; t < 150; ++t) expected.push_back(feed(one, shape, 1));
    dice random(seed);
    for (const std::size_t most : {std::size_t{64}, std::size_t{7}, std::size_t{30}}) {
      auto cut = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
      while (cut.next_position() < 150) {
        const auto first = static_cast<std::size_t>(cut.next_position());
        const std::size_t n = std::min(150 - first, random.between(1, most));
        const auto out = feed(cut, shape, n);
        for (std::size_t layer = 0; layer < shape.layers; ++layer) {
          for (std::size_t t = 0; t < n; ++t) {
            constexpr std::size_t width = shape.query_heads * shape.head_dim;
            const std::vector<float> row(out[layer].begin() + static_cast<std::ptrdiff_t>(t * width),
                                         out[layer].begin() + static_cast<std::ptrdiff_t>((t + 1) * width));
            ASSERT_LT(max_difference(row, expected[first + t][layer]), Codecs::tolerance) << "token " << first + t;
          }
        }
      }
      EXPECT_EQ(cut.held(), one.held());
      for (std::size_t h = 0; h < shape.kv_heads; ++h) EXPECT_EQ(stored(cut, 1, h), stored(one, 1, h));
    }
  }
}

/// While nothing is evicted a policy with true or cache distances equals dense: bit for bit where keys are stored alike.
template <class Codecs, class Policy>
void equals_dense_while_nothing_is_evicted(const std::string& name, const Policy& policy, std::size_t tokens,
                                           bool bits) {
  SCOPED_TRACE(name);
  constexpr kvkeep::model_shape shape{1, 6, 2, Codecs::head_dim};
  const kvkeep::cache_options options{.positions = kvkeep::rope{.theta = 50.0}, .max_step = 5};
  auto all = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, kvkeep::dense{.max_tokens = 100},
                                                                              options);
  auto mine = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
  for (std::size_t t = 0; t < tokens;) {
    const std::size_t n = std::min<std::size_t>(1 + t % 5, tokens - t);
    const auto expected = feed(all, shape, n);
    const auto out = feed(mine, shape, n);
    if (bits) {
      EXPECT_EQ(out, expected);
    } else {
      EXPECT_LT(max_difference(out[0], expected[0]), 1e-6);
    }
    t += n;
  }
}

}  // namespace kvkeep_test

#endif
