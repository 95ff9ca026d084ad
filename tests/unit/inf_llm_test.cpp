// inf_llm: against a slow model that knows no slots, no blocks and no kernel; any steps; the worked examples; bad input.
#include "kvkeep/policy/inf_llm.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "../support/rows.hpp"

namespace kvkeep_test {
namespace {

using kvkeep::chosen_by;
using kvkeep::inf_llm;
using kvkeep::pending_mask;
using kvkeep::position;
using kvkeep::representative_score;
using positions = std::vector<position>;
using unit_list = std::vector<std::size_t>;

/// What a stream is run under, in the words of the paper.
struct rules {
  std::size_t sinks = 3;
  std::size_t window = 12;
  std::size_t size = 5;  // of a unit
  std::size_t count = 2;
  std::size_t representatives = 2;
  std::size_t every = 1;
  std::size_t execution = 0;  // 0: every query looks up alone
  std::size_t frozen = 1;
  chosen_by chooses = chosen_by::layer;
  representative_score by = representative_score::attention_mass;
  pending_mask pending = pending_mask::exact;
  kvkeep::layer_range layers{};

  [[nodiscard]] inf_llm policy(std::size_t max_tokens) const {
    return {.sinks = sinks,
            .window = window,
            .block_size = size,
            .count = count,
            .representatives = representatives,
            .every = every,
            .max_tokens = max_tokens,
            .chooses = chooses,
            .first_layer = layers.first,
            .last_layer = layers.last,
            .by = by};
  }
  [[nodiscard]] inf_llm::published published(std::size_t max_tokens) const {
    return {.n_init = sinks,
            .n_local = window,
            .block_size = size,
            .topk = count,
            .repr_topk = representatives,
            .exc_block_size = execution,
            .chunk_topk_blocks = frozen,
            .max_tokens = max_tokens,
            .chooses = chooses,
            .first_layer = layers.first,
            .last_layer = layers.last,
            .pending = pending};
  }
};

/// One layer of InfLLM, token by token in lists of numbers.
class slow_layer {
 public:
  slow_layer(const rules& r, const kvkeep::model_shape& shape, std::size_t layer, kvkeep::reference_options options,
             position first)
      : rules_(r), shape_(shape), layer_(layer), options_(std::move(options)), first_(first) {
    sums_.resize(shape.query_heads);
    retrieved_.resize(choosers());
  }

  [[nodiscard]] std::size_t choosers() const {
    return rules_.chooses == chosen_by::layer     ? 1
           : rules_.chooses == chosen_by::kv_head ? shape_.kv_heads
                                                  : shape_.query_heads;
  }
  /// n tokens with the rows of `salt`; returns outputs [n, query_heads, head_dim].
  std::vector<double> step(std::size_t n, std::uint64_t salt) {
    std::vector<double> out;
    const std::size_t begin = tokens();
    for (std::size_t t = 0; t < n; ++t) {
      const layer_rows row = rows_of(shape_, layer_, first_ + static_cast<position>(begin + t), 1, salt);
      q_.insert(q_.end(), row.q.begin(), row.q.end());
      k_.insert(k_.end(), row.k.begin(), row.k.end());
      v_.insert(v_.end(), row.v.begin(), row.v.end());
      for (auto& s : sums_) s.push_back(0.0);
    }
    for (std::size_t t = 0; t < n;) {
      const std::size_t length = rules_.execution > 0 ? std::min(rules_.execution, n - t) : 1;
      const std::size_t batch =
          rules_.execution > 0 ? t / (rules_.execution * rules_.frozen) * rules_.execution * rules_.frozen : t;
      block(begin + t, length, complete(begin + batch), out);
      t += length;
      while (units_.size() < complete(begin + t)) form(units_.size());
    }
    return out;
  }
  void erase(std::size_t from, std::size_t to) {
    for (std::size_t j = from; j < to; ++j) erased_.insert({j, true});
  }

  [[nodiscard]] std::size_t tokens() const { return sums_[0].size(); }
  [[nodiscard]] std::size_t complete(std::size_t t) const {
    return t < rules_.sinks + rules_.window ? 0 : (t - rules_.sinks - rules_.window) / rules_.size;
  }
  [[nodiscard]] const unit_list& retrieved(std::size_t chooser) const { return retrieved_[chooser]; }
  [[nodiscard]] const std::vector<unit_list>& representatives(std::size_t number) const {
    return units_[number].tokens;
  }
  [[nodiscard]] double sum(std::size_t head, std::size_t token) const { return sums_[head][token]; }

 private:
  struct unit {
    std::vector<unit_list> tokens;           // [query_heads]: places in the unit, best first
    std::vector<std::vector<double>> means;  // [query_heads][head_dim]
  };
  [[nodiscard]] bool there(std::size_t token) const { return erased_.count(token) == 0; }
  [[nodiscard]] std::size_t first_of(std::size_t number) const { return rules_.sinks + number * rules_.size; }

  /// The key turned as one at distance 0, or the query at the distance of what is retrieved: [head_dim].
  [[nodiscard]] std::vector<double> turned(const float* row, position at) const {
    std::vector<double> out(row, row + shape_.head_dim);
    if (const auto* r = std::get_if<kvkeep::rope>(&options_.positions)) {
      const auto f = *kvkeep::try_rope_frequencies(*r, shape_.head_dim, 0);
      out = kvkeep::detail::turned_row(*r, f, at, {row, shape_.head_dim});
    }
    return out;
  }
  void form(std::size_t number) {
    unit made;
    for (std::size_t head = 0; head < shape_.query_heads; ++head) {
      unit_list order;
      for (std::size_t i = 0; i < rules_.size; ++i) {
        if (there(first_of(number) + i)) order.push_back(i);
      }
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return sums_[head][first_of(number) + a] > sums_[head][first_of(number) + b];
      });
      order.resize(std::min(order.size(), rules_.representatives));
      std::vector<double> mean(shape_.head_dim, 0.0);
      for (const std::size_t i : order) {
        const std::size_t row = ((first_of(number) + i) * shape_.kv_heads + head / shape_.group()) * shape_.head_dim;
        const std::vector<double> key = turned(k_.data() + row, 0);
        for (std::size_t c = 0; c < mean.size(); ++c) mean[c] += key[c] / static_cast<double>(order.size());
      }
      made.tokens.push_back(order);
      made.means.push_back(mean);
    }
    units_.push_back(std::move(made));
  }
  void look_up(std::size_t begin, std::size_t count, std::size_t available) {
    for (std::size_t c = 0; c < choosers(); ++c) {
      std::vector<double> scores(available, 0.0);
      const std::size_t heads = shape_.query_heads / choosers();
      for (std::size_t u = 0; u < available; ++u) {
        bool any = false;
        for (std::size_t i = 0; i < rules_.size; ++i) any = any || there(first_of(u) + i);
        if (!any) scores[u] = -INFINITY;
        for (std::size_t h = c * heads; h < (c + 1) * heads; ++h) {
          for (std::size_t t = begin; t < begin + count; ++t) {
            const std::vector<double> query = turned(q_.data() + (t * shape_.query_heads + h) * shape_.head_dim,
                                                     static_cast<position>(rules_.window) - 1);
            for (std::size_t i = 0; i < query.size(); ++i) scores[u] += query[i] * units_[u].means[h][i];
          }
        }
      }
      unit_list order(available);
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
      order.resize(rules_.count);
      retrieved_[c] = order;
    }
  }
  /// Queries begin .. begin + count - 1, which share an execution block and look among `available` units.
  void block(std::size_t begin, std::size_t count, std::size_t available, std::vector<double>& out) {
    const std::size_t filed = complete(begin);  // units whose tokens are no longer pending
    if (!rules_.layers.has(layer_)) available = 0;
    if (available <= rules_.count) {
      for (auto& r : retrieved_) {
        r.resize(available);
        std::iota(r.begin(), r.end(), std::size_t{0});
      }
    } else if (rules_.execution > 0 ||
               (first_ + static_cast<position>(begin)) % static_cast<position>(rules_.every) == 0) {
      look_up(begin, count, available);
    }
    std::vector<std::vector<double>> added(shape_.query_heads, std::vector<double>(tokens(), 0.0));
    for (std::size_t t = begin; t < begin + count; ++t) {
      for (std::size_t h = 0; h < shape_.query_heads; ++h) {
        const unit_list& mine = retrieved_[h * choosers() / shape_.query_heads];
        // Every key that is read, from how far, and whether it is one of the window's.
        std::vector<std::size_t> keys;
        positions away;
        std::vector<bool> local;
        const auto read = [&](std::size_t j, bool in_window) {
          if (!there(j)) return;
          keys.push_back(j);
          away.push_back(static_cast<position>(in_window ? t - j : rules_.window - 1));
          local.push_back(in_window);
        };
        const std::size_t window_begin = t + 1 > rules_.window ? t + 1 - rules_.window : 0;
        const bool doubles = rules_.pending == pending_mask::authors && rules_.layers.has(layer_);
        const std::size_t last = doubles ? begin + count - 1 : t;
        const std::size_t far_end = last + 1 > rules_.window ? last + 1 - rules_.window : 0;
        for (std::size_t j = 0; j < std::min(rules_.sinks, far_end); ++j) read(j, false);
        for (std::size_t j = first_of(filed); j < far_end; ++j) read(j, false);
        for (const std::size_t u : mine) {
          for (std::size_t i = 0; i < rules_.size; ++i) read(first_of(u) + i, false);
        }
        for (std::size_t j = window_begin; j <= t; ++j) read(j, true);
        const std::size_t dim = shape_.head_dim;
        std::vector<float> k;
        std::vector<float> v;
        for (const std::size_t j : keys) {
          const std::size_t row = (j * shape_.kv_heads + h / shape_.group()) * dim;
          k.insert(k.end(), k_.begin() + static_cast<std::ptrdiff_t>(row),
                   k_.begin() + static_cast<std::ptrdiff_t>(row + dim));
          v.insert(v.end(), v_.begin() + static_cast<std::ptrdiff_t>(row),
                   v_.begin() + static_cast<std::ptrdiff_t>(row + dim));
        }
        kvkeep::reference_options options = options_;
        if (auto* a = std::get_if<kvkeep::alibi>(&options.positions)) {
          const std::vector<float> all = a->slopes.empty() ? kvkeep::alibi_slopes(shape_.query_heads) : a->slopes;
          *a = kvkeep::alibi{.slopes = {all[h]}};
        }
        if (!options.sink_logits.empty()) options.sink_logits = {options_.sink_logits[h]};
        const auto given = kvkeep::reference_attention(
            {q_.data() + (t * shape_.query_heads + h) * dim, 1, 1, dim}, view(k, keys.size(), 1, dim),
            view(v, keys.size(), 1, dim), options, [&](std::size_t, std::size_t j) { return std::optional(away[j]); });
        out.insert(out.end(), given.output.begin(), given.output.end());
        for (std::size_t i = 0; i < keys.size(); ++i) {
          if (!local[i]) continue;
          if (rules_.by == representative_score::attention_mass) {
            added[h][keys[i]] += given.mass[i];
          } else if (keys[i] != t) {
            added[h][keys[i]] += score(t, keys[i], h);
          }
        }
      }
    }
    for (std::size_t h = 0; h < shape_.query_heads; ++h) {
      for (std::size_t j = 0; j < tokens(); ++j) sums_[h][j] += added[h][j];
    }
  }
  /// The scaled score of a query for a key of its window.
  [[nodiscard]] double score(std::size_t t, std::size_t j, std::size_t h) const {
    const std::vector<double> query =
        turned(q_.data() + (t * shape_.query_heads + h) * shape_.head_dim, static_cast<position>(t - j));
    const std::vector<double> key = turned(k_.data() + (j * shape_.kv_heads + h / shape_.group()) * shape_.head_dim, 0);
    double dot = 0;
    for (std::size_t c = 0; c < query.size(); ++c) dot += query[c] * key[c];
    return dot / std::sqrt(static_cast<double>(shape_.head_dim));
  }

  rules rules_;
  kvkeep::model_shape shape_;
  std::size_t layer_;
  kvkeep::reference_options options_;
  position first_;
  std::vector<float> q_;
  std::vector<float> k_;
  std::vector<float> v_;
  std::vector<std::vector<double>> sums_;  // [query_heads][tokens]
  std::vector<unit> units_;
  std::vector<unit_list> retrieved_;  // [choosers]
  std::map<std::size_t, bool> erased_;
};

class slow_model {
 public:
  slow_model(const rules& r, const kvkeep::model_shape& shape, const kvkeep::reference_options& options,
             position first) {
    for (std::size_t layer = 0; layer < shape.layers; ++layer) layers.emplace_back(r, shape, layer, options, first);
  }
  std::vector<std::vector<double>> step(std::size_t n, std::uint64_t salt) {
    std::vector<std::vector<double>> out;
    for (slow_layer& layer : layers) out.push_back(layer.step(n, salt));
    return out;
  }
  std::vector<slow_layer> layers;
};

/// Compares what a cache knows of its units with the model.
template <class Cache>
void expect_same_memory(const Cache& cache, const slow_model& model, const kvkeep::model_shape& shape, const rules& r) {
  const auto memory = cache.memory();
  const slow_layer& first = model.layers[0];
  ASSERT_EQ(memory.count(), first.complete(first.tokens()));
  for (std::size_t l = 0; l < shape.layers; ++l) {
    for (std::size_t c = 0; c < memory.choosers(); ++c) {
      const auto ours = memory.retrieved(l, c);
      ASSERT_EQ(unit_list(ours.begin(), ours.end()), model.layers[l].retrieved(c))
          << "layer " << l << ", chooser " << c;
    }
    for (std::size_t u = 0; u < (r.layers.has(l) ? memory.count() : 0); ++u) {
      for (std::size_t h = 0; h < shape.query_heads; ++h) {
        const auto ours = memory.representatives(l, u, h);
        ASSERT_EQ(unit_list(ours.begin(), ours.end()), model.layers[l].representatives(u)[h])
            << "unit " << u << ", layer " << l << ", head " << h;
      }
    }
  }
}

/// Runs a stream in random steps and compares outputs, lookups and representatives.
template <class Policy>
void run(const std::string& name, const rules& r, const Policy& policy, const kvkeep::model_shape& shape,
         const kvkeep::cache_options& given, std::size_t tokens, std::uint64_t seed, bool erases = false) {
  SCOPED_TRACE(name);
  kvkeep::cache_options options = given;
  options.max_step = 40;
  if (!std::is_same_v<Policy, inf_llm::published>) options.max_shortened = 40;
  const kvkeep::reference_options reference{.positions = options.positions,
                                            .softcap = static_cast<double>(options.softcap),
                                            .sink_logits = {options.sink_logits.begin(), options.sink_logits.end()}};
  auto cache = kvkeep::make_cache(shape, policy, options);
  slow_model model(r, shape, reference, options.first_position);
  dice random(seed);
  while (model.layers[0].tokens() + 40 <= tokens) {
    const position next = cache.next_position();
    const std::size_t n = random.chance(0.4) ? 1 : random.between(1, 40);
    const std::uint64_t salt = random.next();
    if (random.chance(0.2)) {  // nothing came of it
      auto step = cache.begin(n);
      attend_all(step, shape, next, salt + 1);
      continue;
    }
    std::size_t count = n;
    auto step = [&] {
      if (r.execution > 0 || random.chance(0.6)) return cache.begin(n);
      count = random.between(1, n);
      return cache.begin(n, kvkeep::may_shorten);
    }();
    const auto outputs = attend_all(step, shape, next, salt);
    step.commit(count);
    const auto expected = model.step(count, salt);
    for (std::size_t l = 0; l < shape.layers; ++l) {
      const std::vector<float> ours(outputs[l].begin(),
                                    outputs[l].begin() + static_cast<std::ptrdiff_t>(expected[l].size()));
      ASSERT_LT(max_difference(ours, expected[l]), 2e-5)
          << "layer " << l << ", tokens " << next << " and " << n - 1 << " more";
    }
    ASSERT_NO_FATAL_FAILURE(expect_same_memory(cache, model, shape, r));
    if (erases && random.chance(0.3)) {
      const std::size_t have = model.layers[0].tokens();
      const std::size_t from = random.between(0, have);
      const std::size_t to = std::min(have, from + random.between(0, 2 * r.size));
      cache.erase(options.first_position + static_cast<position>(from),
                  options.first_position + static_cast<position>(to));
      for (slow_layer& layer : model.layers) layer.erase(from, to);
    }
  }
}

constexpr std::size_t stream = 260;
const kvkeep::rope rotary{.theta = 100.0};

TEST(InfLlm, EqualsTheSlowModelInAnySteps) {
  std::uint64_t seed = 1;
  for (const kvkeep::model_shape& shape : {kvkeep::model_shape{2, 4, 2, 8}, kvkeep::model_shape{1, 3, 3, 16}}) {
    for (const rules& r :
         {rules{}, rules{.sinks = 0, .window = 7, .size = 4, .count = 1, .representatives = 1},
          rules{.sinks = 5, .window = 20, .size = 17, .count = 3, .representatives = 4}, rules{.every = 3},
          rules{.every = 50}, rules{.chooses = chosen_by::kv_head}, rules{.every = 4, .chooses = chosen_by::query_head},
          rules{.by = representative_score::dot_product},
          rules{.window = 1, .size = 1, .count = 4, .representatives = 1}, rules{.count = 100},
          rules{.layers = {0, 1}}}) {
      const std::uint64_t own = seed++;
      run(fmt::format("rules {}", own), r, r.policy(stream), shape, {.positions = rotary}, stream, own);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(InfLlm, EqualsTheSlowModelUnderEveryEncoding) {
  std::uint64_t seed = 100;
  const kvkeep::model_shape shape{1, 4, 2, 8};
  const kvkeep::position_encoding encodings[] = {
      kvkeep::rope{.theta = 1000.0, .rotary_dim = 4, .layout = kvkeep::rope_layout::interleaved},
      kvkeep::rope{.theta = 1000.0, .scaling = kvkeep::yarn_scaling{.factor = 4, .original_max_position = 16}},
      kvkeep::alibi{}, kvkeep::no_positions{}};
  for (const auto& encoding : encodings) {
    for (const chosen_by by : {chosen_by::layer, chosen_by::query_head}) {
      const rules r{.chooses = by};
      run("encoding", r, r.policy(stream), shape, {.positions = encoding, .first_position = 1000}, stream, seed++);
      if (HasFatalFailure()) return;
    }
  }
  for (const position first : {position{1}, position{1001}}) {
    const rules apart{.every = 7};
    run("lookups apart", apart, apart.policy(stream), shape, {.positions = rotary, .first_position = first}, stream,
        seed++);
    if (HasFatalFailure()) return;
  }
  const rules r{};
  run("softcap and sink logits", r, r.policy(stream), shape,
      {.positions = rotary, .softcap = 3.0F, .sink_logits = {0.5F, -1.0F, 0.0F, 2.0F}}, stream, seed++);
}

TEST(InfLlm, ErasedTokensAreNeverReadAgain) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  for (std::uint64_t seed = 200; seed < 206; ++seed) {
    const rules r{.size = 4, .every = seed % 2 + 1};
    run("erase", r, r.policy(stream), shape, {.positions = rotary}, stream, seed, true);
    if (HasFatalFailure()) return;
  }
}

TEST(InfLlmPublished, EqualsTheSlowModelInAnySteps) {
  std::uint64_t seed = 300;
  const kvkeep::model_shape shape{2, 4, 2, 8};
  for (const pending_mask pending : {pending_mask::exact, pending_mask::authors}) {
    for (const rules& r :
         {rules{.execution = 4}, rules{.execution = 12}, rules{.execution = 3, .frozen = 2},
          rules{.execution = 5, .chooses = chosen_by::query_head}, rules{.execution = 7, .chooses = chosen_by::kv_head},
          rules{.sinks = 0, .window = 9, .size = 3, .execution = 9}, rules{.execution = 1},
          rules{.execution = 6, .layers = {1, 2}}}) {
      rules mine = r;
      mine.pending = pending;
      const std::uint64_t own = seed++;
      run(fmt::format("rules {}", own), mine, mine.published(stream), shape, {.positions = rotary}, stream, own);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(InfLlm, IsTheSameInAnySteps) {
  const kvkeep::model_shape shape{2, 4, 2, 8};
  const rules r{.every = 2};
  const auto outputs = [&](auto next_size) {
    auto cache = kvkeep::make_cache(shape, r.policy(stream), {.positions = rotary, .max_step = stream});
    std::vector<std::vector<float>> all(shape.layers);
    for (std::size_t t = 0; t < stream;) {
      const std::size_t n = std::min<std::size_t>(next_size(), stream - t);
      const auto some = feed(cache, shape, n);
      for (std::size_t l = 0; l < shape.layers; ++l) all[l].insert(all[l].end(), some[l].begin(), some[l].end());
      t += n;
    }
    return all;
  };
  const auto whole = outputs([] { return stream; });
  dice random(8);
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto cut = outputs([&] { return random.between(1, 60); });
    for (std::size_t l = 0; l < shape.layers; ++l) EXPECT_LT(max_difference(cut[l], whole[l]), 1e-5);
  }
}

// Sinks 2, window 4, units of 2: what is held, filed and complete, token by token.
TEST(InfLlm, FilesUnitsAsTheyLeaveTheWindow) {
  const kvkeep::model_shape shape{1, 1, 1, 4};
  auto cache = kvkeep::make_cache(
      shape, inf_llm{.sinks = 2, .window = 4, .block_size = 2, .count = 1, .representatives = 1, .max_tokens = 30},
      {.positions = rotary});
  const auto held_after = [&](std::size_t tokens) {
    feed(cache, shape, tokens - static_cast<std::size_t>(cache.next_position()));
    return cache.held();
  };
  EXPECT_EQ(held_after(7), (positions{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(cache.memory().count(), 0U);
  EXPECT_EQ(held_after(8), (positions{0, 1, 2, 3, 4, 5, 6, 7})) << "2 and 3 were pending for query 7";
  EXPECT_EQ(cache.memory().count(), 1U) << "and the next query looks them up";
  EXPECT_EQ(cache.memory().first_of(0), 2);
  EXPECT_EQ(cache.next_held(), (positions{0, 1, 4, 5, 6, 7}));
  EXPECT_EQ(held_after(9), (positions{0, 1, 4, 5, 6, 7, 8}));
  EXPECT_EQ(held_after(13), (positions{0, 1, 8, 9, 10, 11, 12})) << "pending 8";
  EXPECT_EQ(cache.memory().count(), 3U);
  EXPECT_EQ(held_after(14), (positions{0, 1, 8, 9, 10, 11, 12, 13})) << "pending 8 and 9";
  EXPECT_EQ(held_after(15), (positions{0, 1, 10, 11, 12, 13, 14})) << "pending 10";
  EXPECT_EQ(cache.memory().count(), 4U);
}

TEST(InfLlm, IsDenseWhileTheWindowHoldsAllAndReadsAllWhileUnitsAreFew) {
  const kvkeep::model_shape shape{2, 4, 2, 8};
  auto wide = kvkeep::make_cache(
      shape, inf_llm{.sinks = 1, .window = 90, .block_size = 4, .count = 1, .max_tokens = 90}, {.positions = rotary});
  auto dense = kvkeep::make_cache(shape, kvkeep::dense{.max_tokens = 90}, {.positions = rotary});
  auto all = kvkeep::make_cache(
      shape, inf_llm{.sinks = 2, .window = 10, .block_size = 4, .count = 30, .representatives = 1, .max_tokens = 90},
      {.positions = rotary});
  auto beyond = kvkeep::make_cache(
      shape, kvkeep::policy{kvkeep::keep_all{90}, kvkeep::read_all{}, kvkeep::beyond{10, 9}}, {.positions = rotary});
  for (const std::size_t n : {30U, 1U, 1U, 20U, 38U}) {
    const auto expected = feed(dense, shape, n);
    const auto ours = feed(wide, shape, n);
    const auto few = feed(all, shape, n);
    const auto far = feed(beyond, shape, n);
    for (std::size_t l = 0; l < shape.layers; ++l) {
      EXPECT_LT(max_difference(ours[l], expected[l]), 1e-5);
      EXPECT_LT(max_difference(few[l], far[l]), 1e-5) << "every token once, at window - 1 behind the window";
    }
  }
}

// By-products are those of what is read without being retrieved, in the softmax over all.
TEST(InfLlm, EvidenceIsOfWhatIsNotRetrieved) {
  constexpr kvkeep::model_shape shape{1, 4, 2, 8};
  constexpr std::size_t tokens = 90;
  constexpr kvkeep::by_products wanted{.mass = true, .last_row = true, .log_sum_exp = true};
  auto ours = kvkeep::make_cache(
      shape,
      inf_llm{.sinks = 2, .window = 10, .block_size = 4, .count = 30, .representatives = 1, .max_tokens = tokens},
      {.positions = rotary});
  auto all =
      kvkeep::make_cache(shape, kvkeep::policy{kvkeep::keep_all{tokens}, kvkeep::read_all{}, kvkeep::beyond{10, 9}},
                         {.positions = rotary});
  kvkeep::attention_evidence<wanted> mine(ours.evidence_shape());
  kvkeep::attention_evidence<wanted> theirs(all.evidence_shape());
  for (const std::size_t n : {40U, 1U, 7U, 1U, 1U}) {
    const position next = ours.next_position();
    const auto attend = [&](auto& step, auto& evidence) {
      layer_rows rows = rows_of(shape, 0, next, n);
      step.attend(0, view(std::as_const(rows.q), n, 4, 8), view(std::as_const(rows.k), n, 2, 8),
                  view(std::as_const(rows.v), n, 2, 8), view(rows.out, n, 4, 8), evidence);
    };
    auto one = ours.begin(n);
    auto other = all.begin(n);
    attend(one, mine);
    attend(other, theirs);
    std::map<position, kvkeep::slot> places;
    for (const kvkeep::slot s : all.step_slots()) places[all.position_of(s)] = s;
    std::size_t compared = 0;
    for (const kvkeep::slot s : ours.step_slots()) {
      const position p = ours.position_of(s);
      // Units that became complete in the step were retrieved by some of its queries.
      if (p >= 2 && p < next + static_cast<position>(n) - 10) continue;
      ++compared;
      for (std::size_t h = 0; h < 2; ++h) {
        EXPECT_NEAR(mine.mass(h)[index(s)], theirs.mass(h)[index(places.at(p))], 1e-5) << "position " << p;
      }
      for (std::size_t h = 0; h < 4; ++h) {
        EXPECT_NEAR(mine.last_row(h)[index(s)], theirs.last_row(h)[index(places.at(p))], 1e-6) << "position " << p;
      }
    }
    EXPECT_GE(compared, 12U);
    for (std::size_t h = 0; h < 4; ++h) {
      EXPECT_NEAR(mine.log_sum_exp(n - 1)[h], theirs.log_sum_exp(n - 1)[h], 1e-5);
    }
    one.commit();
    other.commit();
  }
}

TEST(InfLlm, SmallUnitsTakeNoMoreThanTheirTokens) {
  const kvkeep::model_shape shape{2, 4, 2, 8};
  constexpr std::size_t tokens = 10000;
  const std::size_t all = kvkeep::cache_bytes_of(shape, kvkeep::dense{.max_tokens = tokens}, {.max_step = 8}).values;
  for (const std::size_t size : {1U, 3U, 8U, 16U, 100U}) {
    const inf_llm policy{
        .sinks = 2, .window = 16, .block_size = size, .count = 2, .representatives = 1, .max_tokens = tokens};
    const kvkeep::cache_bytes bytes = kvkeep::cache_bytes_of(shape, policy, {.max_step = 8});
    EXPECT_LT(bytes.values, all * 102 / 100) << "units of " << size;
  }
}

TEST(InfLlm, ForgetsAllAtClear) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  const rules r{};
  auto used = kvkeep::make_cache(shape, r.policy(200), {.positions = rotary});
  auto fresh = kvkeep::make_cache(shape, r.policy(200), {.positions = rotary});
  feed(used, shape, 130);
  used.clear();
  EXPECT_EQ(used.memory().count(), 0U);
  for (const std::size_t n : {70U, 1U, 40U}) {
    EXPECT_EQ(feed(used, shape, n), feed(fresh, shape, n)) << "bit for bit";
  }
}

/// Under lm_infinite::middle: what every head reads of the middle for the newest query, by plain sorting.
TEST(LmInfiniteMiddle, ReadsTheKeysOfLargestScoreInAnySteps) {
  const kvkeep::model_shape shape{2, 4, 2, 8};
  const kvkeep::lm_infinite::middle policy{
      .sinks = 3, .window = 10, .count = 4, .at = 6, .first_layer = 1, .max_tokens = 200};
  const kvkeep::lm_infinite plain{.sinks = 3, .window = 10};
  const kvkeep::rope_frequencies f = *kvkeep::try_rope_frequencies(rotary, shape.head_dim, 0);
  std::vector<std::vector<float>> whole;
  for (const std::size_t most : {200U, 1U, 23U}) {
    auto cache = kvkeep::make_cache(shape, policy, {.positions = rotary});
    auto other = kvkeep::make_cache(shape, plain, {.positions = rotary});
    std::vector<std::vector<float>> all(shape.layers);
    for (std::size_t first = 0; first < 200;) {
      const std::size_t n = std::min<std::size_t>(most, 200 - first);
      const auto ours = feed(cache, shape, n);
      const auto without = feed(other, shape, n);
      EXPECT_LT(max_difference(ours[0], without[0]), 1e-6) << "layer 0 reads no middle keys";
      EXPECT_TRUE(cache.memory().retrieved(0, 0).empty());
      first += n;
      for (std::size_t l = 0; l < shape.layers; ++l) all[l].insert(all[l].end(), ours[l].begin(), ours[l].end());
      const std::size_t t = first - 1;
      const layer_rows query = rows_of(shape, 1, static_cast<position>(t), 1);
      for (std::size_t h = 0; h < shape.query_heads; ++h) {
        const std::vector<double> q =
            kvkeep::detail::turned_row(rotary, f, 6, std::span(query.q).subspan(h * shape.head_dim, shape.head_dim));
        std::vector<std::pair<double, std::uint32_t>> scores;  // negative, so that the largest comes first
        for (std::size_t j = 3; j + 10 <= t; ++j) {
          const layer_rows row = rows_of(shape, 1, static_cast<position>(j), 1);
          double dot = 0;
          for (std::size_t c = 0; c < q.size(); ++c) {
            dot -= q[c] * static_cast<double>(row.k[h / shape.group() * shape.head_dim + c]);
          }
          scores.emplace_back(dot, static_cast<std::uint32_t>(j));
        }
        std::sort(scores.begin(), scores.end());
        std::vector<std::uint32_t> expected;
        for (std::size_t k = 0; k < 4 && scores.size() >= 4; ++k) expected.push_back(scores[k].second);
        const auto read = cache.memory().retrieved(1, h);
        ASSERT_EQ(std::vector<std::uint32_t>(read.begin(), read.end()), expected) << "token " << t << ", head " << h;
      }
    }
    if (whole.empty()) whole = all;
    EXPECT_LT(max_difference(all[1], whole[1]), 1e-5);
  }
}

TEST(LmInfiniteMiddle, ReadsNothingThatWasErasedOrAbandoned) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  const kvkeep::lm_infinite::middle policy{
      .sinks = 2, .window = 8, .count = 3, .at = 5, .first_layer = 0, .max_tokens = 120};
  auto cache = kvkeep::make_cache<kvkeep::f16, kvkeep::bf16>(shape, policy, {.positions = rotary});
  auto plain = kvkeep::make_cache<kvkeep::f16, kvkeep::bf16>(shape, policy, {.positions = rotary});
  dice random(3);
  std::vector<std::uint32_t> gone;
  while (cache.next_position() < 100) {
    const position next = cache.next_position();
    const std::size_t n = random.between(1, 12);
    {
      auto step = cache.begin(n);
      attend_all(step, shape, next, 99);
    }
    const std::size_t count = random.between(1, n);
    auto step = cache.begin(n);
    const auto outputs = attend_all(step, shape, next);
    step.commit(count);
    const auto expected = feed(plain, shape, count);
    for (std::size_t i = 0; i < expected[0].size(); ++i) ASSERT_NEAR(outputs[0][i], expected[0][i], 1e-5F);
    for (std::size_t h = 0; h < shape.query_heads; ++h) {
      for (const std::uint32_t at : plain.memory().retrieved(0, h)) {
        EXPECT_EQ(std::count(gone.begin(), gone.end(), at), 0) << at;
      }
    }
    if (!random.chance(0.3)) continue;
    const auto from = static_cast<position>(random.between(0, static_cast<std::size_t>(next)));
    const position to = std::min(from + 5, cache.next_position());
    for (position p = from; p < to; ++p) gone.push_back(static_cast<std::uint32_t>(p));
    cache.erase(from, to);
    plain.erase(from, to);
  }
  EXPECT_GT(gone.size(), 10U);
}

TEST(LmInfiniteMiddle, RefusesRulesThatDoNotFit) {
  const auto fault = [](std::size_t window, auto when) {
    const auto made =
        kvkeep::try_make_cache(kvkeep::model_shape{1, 4, 2, 8},
                               kvkeep::policy{kvkeep::keep{kvkeep::sinks{1}, kvkeep::recent{9}},
                                              kvkeep::middle_top_k{.count = 2, .layers = {0, 1}, .max_tokens = 60},
                                              kvkeep::beyond{window, window}, when},
                               {.positions = rotary});
    return made ? std::string("none") : made.error().message();
  };
  EXPECT_EQ(fault(9, kvkeep::each_token{}), "none");
  EXPECT_EQ(fault(8, kvkeep::each_token{}), "kvkeep: beyond.window = 8; allowed: recent.count = 9");
  EXPECT_EQ(fault(9, kvkeep::after_step{}), "kvkeep: middle_top_k goes with each_token only");
}

TEST(LmInfiniteMiddle, RefusesWhatCannotBe) {
  const kvkeep::model_shape shape{4, 4, 2, 8};
  const auto fault = [&](const kvkeep::lm_infinite::middle& policy) {
    const auto made = kvkeep::try_make_cache(shape, policy, {.positions = rotary});
    return made ? std::string("none") : made.error().message();
  };
  EXPECT_EQ(fault({.max_tokens = 9}), "kvkeep: first_layer = 4; allowed: 0 .. 3, the last layer")
      << "it would never act";
  EXPECT_EQ(fault({.first_layer = 1}), "kvkeep: max_tokens = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(fault({.count = 0, .first_layer = 1, .max_tokens = 9}), "kvkeep: count = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(fault({.first_layer = 3, .last_layer = 2, .max_tokens = 9}),
            "kvkeep: last_layer = 2; allowed: above first_layer = 3");
}

TEST(InfLlm, RefusesWhatCannotBe) {
  const kvkeep::model_shape shape{1, 4, 2, 8};
  const auto fault = [&](const auto& policy) {
    const auto made = kvkeep::try_make_cache(shape, policy, {.positions = rotary});
    return made ? std::string("none") : made.error().message();
  };
  const inf_llm good{.sinks = 2, .window = 8, .block_size = 4, .count = 2, .representatives = 2, .max_tokens = 60};
  EXPECT_EQ(fault(good), "none");
  const auto with = [&](auto member, std::size_t value) {
    inf_llm bad = good;
    bad.*member = value;
    return fault(bad);
  };
  EXPECT_EQ(with(&inf_llm::window, 0), "kvkeep: window = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(with(&inf_llm::block_size, 0), "kvkeep: block_size = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(with(&inf_llm::count, 0), "kvkeep: count = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(with(&inf_llm::representatives, 5), "kvkeep: representatives = 5; allowed: 1 .. block_size = 4");
  EXPECT_EQ(with(&inf_llm::every, 0), "kvkeep: every = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(with(&inf_llm::max_tokens, 0), "kvkeep: max_tokens = 0; allowed: 1 .. 2147483647");
  EXPECT_EQ(with(&inf_llm::first_layer, 1), "kvkeep: first_layer = 1; allowed: 0 .. 0, the last layer");
  EXPECT_EQ(with(&inf_llm::last_layer, 0), "kvkeep: last_layer = 0; allowed: 1 .. 2147483647");
  const auto mixed = [&](std::size_t sinks, std::size_t window, auto when) {
    return fault(kvkeep::policy{kvkeep::keep{kvkeep::sinks{sinks}, kvkeep::unfiled{{2, 8, 4}}},
                                kvkeep::retrieve_blocks<kvkeep::lookup::execution_block>{
                                    .count = 2, .representatives = 2, .max_tokens = 60, .looks_up = {.size = 4}},
                                kvkeep::beyond{window, 7}, when});
  };
  EXPECT_EQ(mixed(2, 8, kvkeep::each_block{4}), "none");
  EXPECT_EQ(mixed(3, 8, kvkeep::each_block{4}), "kvkeep: sinks.count = 3; allowed: unfiled.geometry.sinks = 2");
  EXPECT_EQ(mixed(2, 9, kvkeep::each_block{4}), "kvkeep: beyond.window = 9; allowed: unfiled.geometry.window = 8");
  EXPECT_EQ(mixed(2, 8, kvkeep::each_block{5}), "kvkeep: when.size = 5; allowed: queries that look up together = 4");
  EXPECT_EQ(mixed(2, 8, kvkeep::after_step{}),
            "kvkeep: retrieve_blocks goes with each_token or each_block, not with before_step or after_step");
  const auto by_hand = [&](std::size_t representatives, std::size_t candidates, std::size_t size) {
    return fault(
        kvkeep::policy{kvkeep::keep{kvkeep::sinks{2}, kvkeep::unfiled{{2, 8, 4}}},
                       kvkeep::retrieve_blocks<kvkeep::lookup::execution_block>{.count = 2,
                                                                                .representatives = representatives,
                                                                                .max_tokens = 60,
                                                                                .looks_up = {.size = size},
                                                                                .candidates = candidates},
                       kvkeep::beyond{8, 7}, kvkeep::each_block{size}});
  };
  EXPECT_EQ(by_hand(4, 0, 8), "none");
  EXPECT_EQ(by_hand(5, 0, 8), "kvkeep: representatives = 5; allowed: 1 .. unfiled.geometry.unit = 4");
  EXPECT_EQ(by_hand(4, 0, 9), "kvkeep: looks_up.size = 9; allowed: 1 .. unfiled.geometry.window = 8");
  EXPECT_EQ(by_hand(4, 3, 8),
            "kvkeep: candidates = 3; allowed: 0 where max_tokens fill 12 units; they act among more than 256");
  EXPECT_EQ(with(&inf_llm::candidates, 8),
            "kvkeep: candidates = 8; allowed: 0 where max_tokens fill 12 units; they act among more than 256");
  inf_llm sketched = good;
  sketched.max_tokens = 1210;  // 300 units
  for (const std::size_t candidates : {1U, 300U}) {
    sketched.candidates = candidates;
    EXPECT_NE(fault(sketched).find("allowed: 0, or 2 .. 299"), std::string::npos) << fault(sketched);
  }
  sketched.candidates = 20;
  EXPECT_EQ(fault(sketched), "none");
  const inf_llm::published published{.n_init = 2, .n_local = 8, .block_size = 4, .exc_block_size = 9, .max_tokens = 60};
  EXPECT_EQ(fault(published), "kvkeep: exc_block_size = 9; allowed: 1 .. n_local = 8");

  auto cache = kvkeep::make_cache(shape, good, {.positions = rotary, .max_step = 50, .max_shortened = 4});
  feed(cache, shape, 50);
  const positions held = cache.held();
  EXPECT_EQ(cache.try_begin(11).error().message(),
            "kvkeep: n = 11; allowed: 0 .. 10: 50 of max_tokens = 60 tokens have come");
  EXPECT_EQ(cache.try_reserve(11).error().argument(), "n");
  EXPECT_TRUE(cache.try_reserve(10));
  EXPECT_EQ(cache.try_begin(5, kvkeep::may_shorten).error().message(),
            "kvkeep: n = 5; allowed: 1 .. cache_options::max_shortened = 4 with may_shorten");
  {
    auto step = cache.begin(3);
    attend_all(step, shape, 50);
    const auto refused = step.try_commit(2);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message().find("begin(n, may_shorten) must say"), std::string::npos);
    EXPECT_TRUE(step.open());
    EXPECT_EQ(cache.try_reserve(1).error().code(), kvkeep::errc::wrong_state);
  }
  EXPECT_EQ(cache.held(), held);
  auto authors = kvkeep::make_cache(
      shape, inf_llm::published{.n_init = 2, .n_local = 8, .block_size = 4, .exc_block_size = 4, .max_tokens = 60},
      {.positions = rotary});
  EXPECT_EQ(authors.try_begin(3, kvkeep::may_shorten).error().code(), kvkeep::errc::unsupported);
  EXPECT_EQ(
      kvkeep::try_make_cache(shape, good, {.positions = rotary, .max_step = 4, .max_shortened = 5}).error().message(),
      "kvkeep: max_shortened = 5; allowed: 0 .. max_step = 4");
}

}  // namespace
}  // namespace kvkeep_test
