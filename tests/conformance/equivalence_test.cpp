// Where two systems must agree: each says the same in other words.
#include <gtest/gtest.h>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::inf_llm;
using kvkeep::position;

constexpr kvkeep::model_shape shape{2, 4, 2, 8};
const kvkeep::rope rotary{.theta = 100.0};
const kvkeep::position_encoding encodings[] = {rotary, kvkeep::alibi{}};

/// Largest difference of the outputs for every token of a stream under two policies, token by token: [tokens].
template <class A, class B>
std::vector<double> differences(const A& one, const B& other, std::size_t tokens,
                                const kvkeep::position_encoding& positions = rotary) {
  auto first = kvkeep::make_cache(shape, one, {.positions = positions, .max_step = 4});
  auto second = kvkeep::make_cache(shape, other, {.positions = positions, .max_step = 4});
  std::vector<double> out;
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto a = feed(first, shape, 1);
    const auto b = feed(second, shape, 1);
    double worst = 0;
    for (std::size_t l = 0; l < shape.layers; ++l) worst = std::max(worst, max_difference(a[l], b[l]));
    out.push_back(worst);
  }
  return out;
}
/// The largest of those from a token on.
double largest(const std::vector<double>& all, std::size_t from = 0) {
  return *std::max_element(all.begin() + static_cast<std::ptrdiff_t>(from), all.end());
}

TEST(Equivalence, SinksWithoutSinksAreAWindow) {
  for (const auto& positions : encodings) {
    EXPECT_EQ(largest(differences(kvkeep::streaming_llm{.sinks = 0, .window = 9}, kvkeep::sliding_window{.window = 9},
                                  60, positions)),
              0.0);
  }
}

TEST(Equivalence, TheStreamingLlmOfInfLlmsAuthorsDiffersWhileTheCacheFillsOnly) {
  // 2 sinks, 3 recent: the query and 3 tokens before it are the window of 4.
  const auto all = differences(kvkeep::streaming_llm{.sinks = 2, .window = 4},
                               kvkeep::streaming_llm::settled{.sinks = 2, .window = 4}, 60);
  EXPECT_LT(largest(all, 5), 1e-6);
  EXPECT_GT(all[4], 1e-4) << "sink 0 is 4 away, or 5 as in a cache that is full";
}

TEST(Equivalence, LmInfiniteWithOneSinkIsStreamingLlm) {
  EXPECT_LT(largest(differences(kvkeep::lm_infinite{.sinks = 1, .window = 9},
                                kvkeep::streaming_llm{.sinks = 1, .window = 9}, 60)),
            1e-6);
}

TEST(Equivalence, UnitsThatAreNeverFullLeaveAllTokensPending) {
  constexpr std::size_t tokens = 70;
  EXPECT_LT(
      largest(differences(inf_llm{.sinks = 3, .window = 8, .block_size = 100, .count = 1, .max_tokens = tokens},
                          kvkeep::policy{kvkeep::keep_all{tokens}, kvkeep::read_all{}, kvkeep::beyond{8, 7}}, tokens)),
      1e-6);
}

TEST(Equivalence, UnitsThatAreAllReadAreDenseButForDistances) {
  constexpr std::size_t tokens = 70;
  const inf_llm all{.sinks = 3, .window = 8, .block_size = 4, .count = 20, .representatives = 2, .max_tokens = tokens};
  EXPECT_LT(largest(differences(all, kvkeep::policy{kvkeep::keep_all{tokens}, kvkeep::read_all{}, kvkeep::beyond{8, 7}},
                                tokens)),
            1e-6);
  EXPECT_LT(largest(differences(all, kvkeep::dense{.max_tokens = tokens}, tokens, kvkeep::no_positions{})), 1e-6);
}

TEST(Equivalence, RoomForTheWholeStreamIsDense) {
  constexpr std::size_t tokens = 60;
  const kvkeep::dense dense{.max_tokens = tokens};
  for (const auto& positions : encodings) {
    EXPECT_EQ(largest(differences(kvkeep::streaming_llm{.sinks = 2, .window = 60}, dense, tokens, positions)), 0.0);
    EXPECT_LT(largest(differences(kvkeep::lm_infinite{.sinks = 2, .window = 60}, dense, tokens, positions)), 1e-6);
    EXPECT_LT(largest(differences(inf_llm{.sinks = 2, .window = 60, .block_size = 4, .count = 1, .max_tokens = tokens},
                                  dense, tokens, positions)),
              1e-6);
    EXPECT_LT(
        largest(differences(
            kvkeep::lm_infinite::middle{.sinks = 2, .window = 60, .count = 1, .first_layer = 0, .max_tokens = tokens},
            dense, tokens, positions)),
        1e-6);
    EXPECT_EQ(largest(differences(kvkeep::unlimiformer{.window = 60, .count = 1, .max_tokens = tokens}, dense, tokens,
                                  positions)),
              0.0);
  }
}

TEST(Equivalence, AllKeysAtTheirOwnDistancesAreDense) {
  constexpr std::size_t tokens = 60;
  for (const auto& positions : encodings) {
    for (const kvkeep::chosen_by chooses : {kvkeep::chosen_by::query_head, kvkeep::chosen_by::kv_head}) {
      const kvkeep::unlimiformer all{
          .window = 5, .count = tokens, .ceiling = tokens, .chooses = chooses, .max_tokens = tokens};
      EXPECT_LT(largest(differences(all, kvkeep::dense{.max_tokens = tokens}, tokens, positions)), 1e-6);
      const kvkeep::unlimiformer capped{
          .window = 5, .count = tokens, .at = 3, .ceiling = 20, .chooses = chooses, .max_tokens = tokens};
      EXPECT_LT(largest(differences(
                    capped, kvkeep::policy{kvkeep::keep_all{tokens}, kvkeep::read_all{}, kvkeep::clamped_distance{20}},
                    tokens, positions)),
                1e-6);
    }
  }
}

/// The distances of a full cache of 2 sinks and 8 recent tokens.
struct by_place {
  position operator()(const kvkeep::key_place& k) const noexcept {
    return k.number < 2 && k.age() >= 9 ? 10 - k.number : k.age();
  }
  static std::optional<position> largest(const kvkeep::retention&) noexcept { return 10; }
};

TEST(Equivalence, CachePlacesUnderAlibiAreABiasByPlace) {
  // Tokens of the window are at their distance; sink j of 2 is 2 + 8 - j behind the query.
  constexpr std::size_t tokens = 50;
  EXPECT_LT(largest(differences(kvkeep::streaming_llm{.sinks = 2, .window = 9},
                                kvkeep::policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::recent{9}}, kvkeep::read_all{},
                                               by_place{}},
                                tokens, kvkeep::alibi{}),
                    10),
            1e-6);
}

}  // namespace
}  // namespace kvkeep_test
