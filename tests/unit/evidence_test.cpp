// attention_evidence: what attention gives besides its output, against the reference, slot by slot.
#include "kvkeep/attention/evidence.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "../support/allocations.hpp"
#include "../support/oracle.hpp"
#include "kvkeep/core/thread_executor.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::attention_evidence;
using kvkeep::by_products;

constexpr by_products all_of_them{
    .mass = true, .mass_by_query = true, .last_row = true, .window_rows = 3, .log_sum_exp = true};
using everything = attention_evidence<all_of_them>;

/// A budget per layer and kv head: slots of their own for each.
struct ragged {
  static constexpr kvkeep::scope scope = kvkeep::scope::kv_head;
  static constexpr bool leaves_runs = true;
  [[nodiscard]] std::size_t share(const kvkeep::unit_place& p) const { return 5 + 9 * p.layer + 4 * p.kv_head; }
};

/// Compares evidence of a layer in the open step with the truth of all its queries.
template <class Codecs, class Cache, class Planner>
void compare(const everything& evidence, const Cache& cache, Planner& plan, const kvkeep::cache_options& options,
             std::size_t layer) {
  const kvkeep::model_shape& shape = cache.shape();
  const std::size_t n = plan.step_tokens();
  const std::size_t slots = evidence.shape().slots;
  const std::size_t rows = std::min<std::size_t>(n, 3);
  ASSERT_EQ(evidence.rows(), rows);
  for (std::size_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    const std::size_t unit = cache.unit_of(layer, kv_head);
    std::map<position, std::size_t> slot_of;
    for (const kvkeep::slot s : cache.step_slots(unit)) slot_of[cache.position_of(s)] = kvkeep::index(s);
    ASSERT_EQ(slot_of.size(), cache.held_count(unit) + n);
    std::vector<double> mass(slots, 0.0);
    std::vector<std::vector<double>> by_query(shape.group(), mass);
    std::vector<std::vector<double>> window(shape.group() * rows, mass);
    for (std::size_t t = 0; t < n; ++t) {
      const query_truth truth = truth_of<Codecs>(plan, shape, options, layer, kv_head, t);
      for (std::size_t g = 0; g < shape.group(); ++g) {
        for (std::size_t j = 0; j < truth.keys.size(); ++j) {
          const std::size_t s = slot_of.at(truth.keys[j]);
          mass[s] += truth.weights[g][j];
          by_query[g][s] += truth.weights[g][j];
          if (t + rows >= n) window[g * rows + t + rows - n][s] = truth.weights[g][j];
        }
        ASSERT_NEAR(static_cast<double>(evidence.log_sum_exp(t)[kv_head * shape.group() + g]), truth.log_sum_exp[g],
                    2e-5);
      }
    }
    const double of_sums = 1e-6 * static_cast<double>(n);
    ASSERT_LT(max_difference(evidence.mass(kv_head), mass), of_sums);
    for (std::size_t g = 0; g < shape.group(); ++g) {
      const std::size_t h = kv_head * shape.group() + g;
      ASSERT_LT(max_difference(evidence.mass_by_query(h), by_query[g]), of_sums);
      ASSERT_LT(max_difference(evidence.last_row(h), window[g * rows + rows - 1]), 2e-6);
      for (std::size_t i = 0; i < rows; ++i) {
        ASSERT_LT(max_difference(evidence.window_row(h, i), window[g * rows + i]), 2e-6) << "row " << i;
      }
    }
    for (std::size_t s = 0; s < slots; ++s) {  // not small, nothing
      if (mass[s] == 0.0) ASSERT_EQ(evidence.mass(kv_head)[s], 0.0F) << "slot " << s;
    }
  }
}

/// Feeds steps of many sizes, with holes between, and compares what is gathered of every layer.
template <class Codecs, class Policy>
void gathers(const std::string& name, const Policy& policy, kvkeep::cache_options options) {
  constexpr kvkeep::model_shape shape{2, 4, 2, Codecs::head_dim};
  options.max_step = 70;
  for (const std::size_t workers : {std::size_t{1}, std::size_t{3}}) {
    for (const std::size_t parts : {std::size_t{1}, std::size_t{3}}) {
      SCOPED_TRACE(fmt::format("{}, {} workers, {} parts", name, workers, parts));
      options.workers = workers;
      options.key_parts = parts;
      auto cache = kvkeep::make_cache<typename Codecs::key, typename Codecs::value>(shape, policy, options);
      auto twin = kvkeep::make_planner(shape, policy, {.max_step = options.max_step});
      everything evidence(cache.evidence_shape());
      kvkeep::thread_executor threads(workers);
      for (const std::size_t n : {std::size_t{1}, std::size_t{5}, std::size_t{70}, std::size_t{1}, std::size_t{5}}) {
        const position first = cache.next_position();
        auto step = cache.begin(n);
        twin.begin(n);
        for (std::size_t layer = 0; layer < shape.layers; ++layer) {
          attend_layer(step, shape, layer, first, evidence, threads);
          compare<Codecs>(evidence, cache, twin, options, layer);
          if (testing::Test::HasFatalFailure()) return;
        }
        step.commit();
        twin.commit();
        const position last = cache.next_position() - 2;  // holes among the sinks and in the window
        for (const position p : {position{1}, last - 3, last - 8}) {
          if (p < 0 || p >= cache.next_position() || n == 5) continue;
          cache.erase(p, p + 1);
          twin.erase(p, p + 1);
        }
      }
    }
  }
}

template <class Codecs>
void gathers_under_every_storage(const std::string& name, const kvkeep::cache_options& options) {
  gathers<Codecs>(name + ", dense", kvkeep::dense{.max_tokens = 200}, options);
  gathers<Codecs>(name + ", streaming_llm", kvkeep::streaming_llm{.sinks = 3, .window = 21}, options);
  gathers<Codecs>(name + ", lm_infinite", kvkeep::lm_infinite{.sinks = 5, .window = 18}, options);
  gathers<Codecs>(name + ", random", kvkeep::random_eviction{.sinks = 2, .window = 9, .count = 13}, options);
}

const kvkeep::rope rotary{.theta = 100.0};

TEST(Evidence, IsTheReferences) {
  gathers_under_every_storage<f32s>("rope", {.positions = rotary});
  gathers_under_every_storage<f32s>("alibi", {.positions = kvkeep::alibi{}});
  gathers<f32s>("ragged", kvkeep::policy{kvkeep::keep{ragged{}}}, {.positions = rotary});
}

TEST(Evidence, KnowsSinkLogitsAndSoftcap) {
  gathers_under_every_storage<f32s>(
      "both", {.positions = rotary, .scale = 0.7F, .softcap = 2.5F, .sink_logits = {1.5F, -2.0F, 6.0F, 0.0F}});
}

TEST(Evidence, IsThatOfRowsAsStored) {
  gathers_under_every_storage<stored_as<kvkeep::f16, kvkeep::f16>>("f16", {.positions = rotary});
  gathers_under_every_storage<stored_as<kvkeep::int8, kvkeep::int8>>("int8", {.positions = rotary});
}

constexpr kvkeep::model_shape small{1, 4, 2, 8};
const kvkeep::streaming_llm window_policy{.sinks = 2, .window = 12};

TEST(Evidence, BeforeAnythingIsAttendedIsZero) {
  const auto cache = kvkeep::make_cache(small, window_policy, {.max_step = 4});
  const everything evidence(cache.evidence_shape());
  EXPECT_EQ(evidence.rows(), 0U);
  const auto zero = [](std::span<const float> row) {
    return std::all_of(row.begin(), row.end(), [](float x) { return x == 0.0F; });
  };
  for (std::size_t h = 0; h < 4; ++h) {
    EXPECT_TRUE(zero(evidence.mass(h / 2)) && zero(evidence.mass_by_query(h)) && zero(evidence.last_row(h)));
    for (std::size_t t = 0; t < 3; ++t) EXPECT_TRUE(zero(evidence.window_row(h, t)));
    EXPECT_TRUE(zero(evidence.log_sum_exp(h)));
  }
}

template <by_products What>
attention_evidence<What> gathered(std::vector<float>* out = nullptr) {
  auto cache = kvkeep::make_cache(small, window_policy, {.max_step = 9});
  attention_evidence<What> evidence(cache.evidence_shape());
  for (const std::size_t n : {std::size_t{9}, std::size_t{2}}) {  // the second step forgets the first
    const position first = cache.next_position();
    auto step = cache.begin(n);
    const auto output = attend_layer(step, small, 0, first, evidence);
    if (out != nullptr) *out = output;
    step.commit();
  }
  return evidence;
}

std::vector<float> copy(std::span<const float> row) { return {row.begin(), row.end()}; }

TEST(Evidence, EachByItselfIsTheSame) {
  std::vector<float> output;
  const auto all = gathered<all_of_them>(&output);
  const auto mass = gathered<by_products{.mass = true}>();
  const auto by_query = gathered<by_products{.mass_by_query = true}>();
  const auto last = gathered<by_products{.last_row = true}>();
  const auto rows = gathered<by_products{.window_rows = 100}>();
  const auto sums = gathered<by_products{.log_sum_exp = true}>();
  ASSERT_EQ(all.rows(), 2U);
  ASSERT_EQ(rows.rows(), 2U);
  for (std::size_t h = 0; h < 4; ++h) {
    EXPECT_EQ(copy(mass.mass(h / 2)), copy(all.mass(h / 2)));
    EXPECT_EQ(copy(by_query.mass_by_query(h)), copy(all.mass_by_query(h)));
    EXPECT_EQ(copy(last.last_row(h)), copy(all.last_row(h)));
    for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(copy(rows.window_row(h, i)), copy(all.window_row(h, i)));
  }
  for (std::size_t t = 0; t < 2; ++t) EXPECT_EQ(copy(sums.log_sum_exp(t)), copy(all.log_sum_exp(t)));
  static_assert(!decltype(sums)::keeps_weights && decltype(mass)::keeps_weights);
  EXPECT_LT(sums.bytes(), 1024U) << "no weights are kept for it";
  EXPECT_LT(mass.bytes(), all.bytes());

  auto plain = kvkeep::make_cache(small, window_policy, {.max_step = 9});
  feed(plain, small, 9);
  EXPECT_EQ(feed(plain, small, 2)[0], output) << "whether anything is gathered does not change the output";
}

TEST(Evidence, EndlessScoresAreNotSilent) {
  constexpr kvkeep::model_shape two_heads{1, 2, 2, 8};
  auto cache = kvkeep::make_cache(two_heads, kvkeep::dense{.max_tokens = 40}, {.positions = kvkeep::no_positions{}});
  everything evidence(cache.evidence_shape());
  layer_rows rows = rows_of(two_heads, 0, 0, 40);
  rows.k[5 * 16 + 2] =
      rows.q[39 * 16 + 2] > 0 ? INFINITY : -INFINITY;  // of token 5 in kv head 0, as the last query likes it
  auto step = cache.begin(40);
  step.attend(0, view(rows.q, 40, 2, 8), view(rows.k, 40, 2, 8), view(rows.v, 40, 2, 8), {rows.out.data(), 40, 2, 8},
              evidence);
  const auto any_nan = [](std::span<const float> row) {
    return std::any_of(row.begin(), row.end(), [](float x) { return std::isnan(x); });
  };
  EXPECT_TRUE(any_nan(evidence.mass(0)));
  EXPECT_TRUE(any_nan(evidence.last_row(0)));
  EXPECT_FALSE(any_nan(evidence.mass(1)) || any_nan(evidence.last_row(1)));
}

TEST(Evidence, TellsItsBytesAndTakesNoMore) {
  auto cache = kvkeep::make_cache(small, window_policy, {.max_step = 8, .workers = 3, .key_parts = 2});
  const std::size_t before = bytes_allocated();
  everything evidence(cache.evidence_shape());
  EXPECT_EQ(bytes_allocated() - before, evidence.bytes());
  everything moved(std::move(evidence));
  kvkeep::thread_executor threads(3);
  layer_rows rows = rows_of(small, 0, 0, 8);
  const std::size_t count = allocations();
  for (int i = 0; i < 20; ++i) {
    auto step = cache.begin(8);
    step.attend(0, view(std::as_const(rows.q), 8, 4, 8), view(std::as_const(rows.k), 8, 2, 8),
                view(std::as_const(rows.v), 8, 2, 8), view(rows.out, 8, 4, 8), moved, threads);
    step.commit();
  }
  EXPECT_EQ(allocations() - count, 0U);
}

TEST(Evidence, NamesWhatIsWrongWithItsShape) {
  const auto message = [](const kvkeep::evidence_shape& shape) {
    const auto made = everything::try_make(shape);
    EXPECT_FALSE(made);
    EXPECT_THROW(everything{shape}, kvkeep::error);
    return made ? std::string() : made.error().message();
  };
  EXPECT_EQ(message({4, 0, 16, 1, 1, 1}), "kvkeep: kv_heads = 0; allowed: >= 1");
  EXPECT_EQ(message({0, 2, 16, 1, 1, 1}), "kvkeep: query_heads = 0; allowed: a multiple of kv_heads = 2, >= 1");
  EXPECT_EQ(message({5, 2, 16, 1, 1, 1}), "kvkeep: query_heads = 5; allowed: a multiple of kv_heads = 2, >= 1");
  EXPECT_EQ(message({4, 2, 0, 1, 1, 1}), "kvkeep: slots = 0; allowed: a multiple of 16, >= 16");
  EXPECT_EQ(message({4, 2, 24, 1, 1, 1}), "kvkeep: slots = 24; allowed: a multiple of 16, >= 16");
  EXPECT_EQ(message({4, 2, 16, 0, 1, 1}), "kvkeep: tokens = 0; allowed: >= 1");
  EXPECT_EQ(message({4, 2, 16, 1, 0, 1}), "kvkeep: together = 0; allowed: >= 1");
  EXPECT_EQ(message({4, 2, 16, 1, 1, 0}), "kvkeep: regions = 0; allowed: >= 1");
  constexpr std::size_t huge = std::size_t{1} << 62;  // times 4 bytes: 0
  EXPECT_NE(message({1, 1, huge, 1, 1, 1}).find("no machine has memory"), std::string::npos);
  EXPECT_NE(message({1, 1, 16, huge, 1, 1}).find("no machine has memory"), std::string::npos);
  EXPECT_NE(message({1, 1, 16, 1, huge, 1}).find("no machine has memory"), std::string::npos);
}

TEST(Evidence, MustBeSizedForTheCache) {
  auto cache = kvkeep::make_cache(small, window_policy, {.max_step = 4});
  const kvkeep::evidence_shape right = cache.evidence_shape();
  const std::pair<std::string, std::size_t kvkeep::evidence_shape::*> fields[] = {
      {"query_heads", &kvkeep::evidence_shape::query_heads},
      {"kv_heads", &kvkeep::evidence_shape::kv_heads},
      {"slots", &kvkeep::evidence_shape::slots},
      {"tokens", &kvkeep::evidence_shape::tokens},
      {"together", &kvkeep::evidence_shape::together},
      {"regions", &kvkeep::evidence_shape::regions}};
  auto step = cache.begin(1);
  layer_rows rows = rows_of(small, 0, 0, 1);
  const auto attend = [&](everything& evidence) {
    return step.try_attend(0, view(std::as_const(rows.q), 1, 4, 8), view(std::as_const(rows.k), 1, 2, 8),
                           view(std::as_const(rows.v), 1, 2, 8), view(rows.out, 1, 4, 8), evidence);
  };
  for (const auto& [name, field] : fields) {
    kvkeep::evidence_shape other = right;
    other.*field = name == "kv_heads" ? 1 : 2 * (right.*field);
    everything evidence(other);
    const auto refused = attend(evidence);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().message(), fmt::format("kvkeep: evidence.shape.{} = {}; allowed: the cache's: {}", name,
                                                     other.*field, right.*field));
    EXPECT_EQ(rows.out[0], -77.0F) << "nothing was done";
  }
  everything evidence(right);
  EXPECT_TRUE(attend(evidence)) << "the layer can still be attended";
  EXPECT_FALSE(attend(evidence)) << "once";
}

}  // namespace
}  // namespace kvkeep_test
