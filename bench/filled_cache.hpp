// filled_cache: a cache of several layers in the state that a long stream leaves it in.
//
// Attending every token of a stream just to fill a cache would take hours. So the planner alone sees the stream, as it would
// in an engine that owns its memory, and then every slot that is held gets a random row in every layer. What follows is the
// code that cache::begin, step::attend and step::commit run.
#ifndef KVKEEP_BENCH_FILLED_CACHE_HPP
#define KVKEEP_BENCH_FILLED_CACHE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvkeep/core/thread_executor.hpp"
#include "kvkeep/kvkeep.hpp"
#include "model_cache.hpp"
#include "normal_rows.hpp"
#include "problem.hpp"
#include "reference.hpp"

namespace kvkeep_bench {

template <class PolicyCase, class CodecCase>
class filled_cache final : public model_cache {
 public:
  using codec = typename CodecCase::codec;
  using policy = decltype(PolicyCase::policy(problem{}));
  using core = kvkeep::detail::cache_core<policy, codec, codec>;

  filled_cache(const problem& size, std::size_t layers, const call_mode& most)
      : size_(size),
        core_(kvkeep::detail::unwrap(core::try_make({layers, size.query_heads, size.kv_heads, size.head_dim},
                                                    PolicyCase::policy(size), options(size, most)))),
        q_(size.queries * size.query_heads * size.head_dim),
        k_(size.queries * size.kv_heads * size.head_dim),
        v_(k_.size()),
        out_(q_.size()) {
    if (most.threads > 1) threads_.emplace(most.threads);
    if (most.mass) evidence_.emplace(core_->evidence_shape());
    stream();
    fill_rows();
    fill_normal(q_, 11, 2.0F);
    fill_normal(k_, 12);
    fill_normal(v_, 13);
  }

  [[nodiscard]] std::size_t layers() const noexcept override { return core_->shape.layers; }

  void begin() override { kvkeep::detail::unwrap(core_->begin(size_.queries)); }
  void attend(std::size_t layer, const call_mode& how) override {
    const kvkeep::rows_view<const float> q(q_.data(), size_.queries, size_.query_heads, size_.head_dim);
    const kvkeep::rows_view<const float> k(k_.data(), size_.queries, size_.kv_heads, size_.head_dim);
    const kvkeep::rows_view<const float> v(v_.data(), size_.queries, size_.kv_heads, size_.head_dim);
    const kvkeep::rows_view<float> out(out_.data(), size_.queries, size_.query_heads, size_.head_dim);
    const kvkeep::executor_ref executor = how.threads > 1 ? kvkeep::executor_ref(*threads_) : kvkeep::executor_ref();
    if (how.mass) {
      kvkeep::detail::unwrap(core_->attend(layer, q, k, v, out, executor, *evidence_));
    } else {
      kvkeep::detail::unwrap(core_->attend(layer, q, k, v, out, executor));
    }
  }
  void commit() override { kvkeep::detail::unwrap(core_->commit(size_.queries, told(size_.queries))); }
  void leave() override { core_->abort(); }

  [[nodiscard]] std::size_t tokens_read() override {
    std::vector<bool> read(core_->plan.planned_blocks() * kvkeep::block_tokens);
    std::size_t count = 0;
    for (const std::size_t query : {std::size_t{0}, size_.queries - 1}) {
      each_key(query, [&](kvkeep::slot s, kvkeep::position) {
        if (!read[index(s)]) ++count;
        read[index(s)] = true;
      });
    }
    for (const kvkeep::slot s : core_->plan.new_slots(0)) count += read[index(s)] ? 0U : 1U;
    return count;
  }

  [[nodiscard]] std::string verify(std::size_t layer, const call_mode& how) override {
    for (const std::size_t query : {std::size_t{0}, size_.queries - 1}) {
      if (const std::size_t keys = count_keys(query); query + 1 == size_.queries && keys != size_.tokens) {
        return fmt::format("the last query reads {} keys instead of {}", keys, size_.tokens);
      }
      for (const std::size_t head : {std::size_t{0}, size_.query_heads - 1}) {
        const std::size_t row = (query * size_.query_heads + head) * size_.head_dim;
        const std::string wrong =
            expected(layer, query, head)
                .compare(std::span<const float>(out_).subspan(row, size_.head_dim), CodecCase::tolerance);
        if (!wrong.empty()) return fmt::format("query {} of head {} {}", query, head, wrong);
      }
    }
    if (const double share = together(); PolicyCase::scattered && share > 0.1) {
      return fmt::format("{:.0f} % of neighbours in a block are neighbours in the stream", 100.0 * share);
    }
    return how.mass ? verify_mass(layer) : std::string();
  }

  void plan_token() override { kvkeep::detail::unwrap(core_->plan.try_begin(1)); }
  void write_token() override {
    const kvkeep::slot fresh = core_->plan.new_slots(0)[0];
    const std::size_t dim = size_.head_dim;
    for (std::size_t lane = 0; lane < layers() * size_.kv_heads; ++lane) {
      const std::size_t at = lane % size_.kv_heads * dim;
      core_->store.write(lane, fresh, std::span<const float>(k_).subspan(at, dim),
                         std::span<const float>(v_).subspan(at, dim));
    }
  }
  void settle_token() override {
    kvkeep::detail::unwrap(core_->plan.try_commit(told(1)));
    for (const kvkeep::token_move& m : core_->plan.last(0).moves) {
      for (std::size_t lane = 0; lane < layers() * size_.kv_heads; ++lane) core_->store.move(lane, m.from, m.to);
    }
  }

 private:
  [[nodiscard]] static kvkeep::cache_options options(const problem& size, const call_mode& most) {
    kvkeep::cache_options out;
    out.workers = most.threads;
    out.key_parts = size.kv_heads >= most.threads ? 1 : most.threads;
    return out;
  }

  /// Lets the planner see the stream.
  void stream() {
    auto& plan = core_->plan;
    const std::size_t length = PolicyCase::stream(size_);
    const std::size_t large = std::clamp<std::size_t>(plan.capacity() / 16, 16, 512);
    // The last tokens come by few, as in decoding, and take the slots that those before them left.
    const std::size_t small = PolicyCase::scattered ? kvkeep::block_tokens : 1;
    const std::size_t last = PolicyCase::scattered ? 4 * size_.tokens : 64;
    for (std::size_t done = 0; done < length;) {
      const std::size_t left = length - done;
      const std::size_t n = left > last ? std::min(large, left - last) : std::min(small, left);
      if (PolicyCase::reserves && left > last && plan.held_count() + n > plan.capacity()) {
        kvkeep::detail::unwrap(plan.try_reserve(n));
      }
      kvkeep::detail::unwrap(plan.try_begin(n));
      kvkeep::detail::unwrap(plan.try_commit(told(n)));
      done += n;
    }
    // Rules ranked by evidence take several tokens at once where there is room for them.
    if (core::planner_type::wants_surprisals && size_.queries > 1) {
      kvkeep::detail::unwrap(plan.try_reserve(size_.queries));
    }
  }

  /// Random surprisals of the next n tokens, where the policy asks for them.
  [[nodiscard]] kvkeep::commit_evidence told(std::size_t n) {
    if constexpr (!core::planner_type::wants_surprisals) return {};
    surprisals_.resize(n);
    fill_normal(surprisals_, 1000 + static_cast<std::uint64_t>(core_->plan.next_position()));
    for (float& value : surprisals_) value = std::abs(value);
    return {.surprisals = surprisals_};
  }

  /// Writes a random row for every token held.
  void fill_rows() {
    const std::span<const kvkeep::slot> held = core_->plan.held_slots();
    std::vector<kvkeep::slot> slots(held.begin(), held.end());
    std::sort(slots.begin(), slots.end());
    const std::size_t lanes = layers() * size_.kv_heads;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      for (const kvkeep::slot s : slots) {
        const std::uint64_t number = (lane << 32U) + 2 * index(s);
        core_->store.write(lane, s, normal_row(number, size_.head_dim), normal_row(number + 1, size_.head_dim));
      }
    }
  }

  /// Calls f(slot, distance) for every key that a query of the open step reads.
  template <class F>
  void each_key(std::size_t query, const F& f) {
    const kvkeep::query_view view = core_->plan.view(0, query);
    for (const kvkeep::key_span& span : view.spans) {
      for (std::size_t r = 0; r < kvkeep::block_tokens; ++r) {
        if ((span.mask >> r & 1U) == 0) continue;
        const kvkeep::slot s = kvkeep::to_slot(span.block * kvkeep::block_tokens + r);
        f(s, view.distance[index(s)]);
      }
    }
  }
  [[nodiscard]] std::size_t count_keys(std::size_t query) {
    std::size_t count = 0;
    each_key(query, [&](kvkeep::slot, kvkeep::position) { ++count; });
    return count;
  }
  /// The share of keys whose neighbour in the block is one token nearer or farther.
  [[nodiscard]] double together() {
    std::vector<kvkeep::position> away(core_->plan.planned_blocks() * kvkeep::block_tokens, -2);
    each_key(size_.queries - 1, [&](kvkeep::slot s, kvkeep::position distance) { away[index(s)] = distance; });
    std::size_t count = 0;
    for (std::size_t s = 1; s < away.size(); ++s) {
      const kvkeep::position apart = away[s] - away[s - 1];
      if (s % kvkeep::block_tokens != 0 && away[s] >= 0 && away[s - 1] >= 0 && (apart == 1 || apart == -1)) ++count;
    }
    return static_cast<double>(count) / static_cast<double>(size_.tokens);
  }

  [[nodiscard]] reference_row expected(std::size_t layer, std::size_t query, std::size_t head) {
    // Integer keys meet a query of integers, unless they are turned as they are read.
    const bool rounds = codec::integer && !core_->plan.storage().scattered;
    const std::size_t dim = size_.head_dim;
    const kvkeep::rope encoding;
    const auto frequencies = kvkeep::detail::unwrap(kvkeep::try_rope_frequencies(encoding, dim, 0));
    const std::span<const float> q = std::span<const float>(q_).subspan((query * size_.query_heads + head) * dim, dim);
    const auto lane = core_->store.view(core_->lane_of(layer, head / size_.group()));
    const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
    reference_row row(dim);
    std::vector<float> key(dim);
    std::vector<float> value(dim);
    std::vector<double> turned;
    std::vector<double> doubt(dim);
    kvkeep::position turned_to = -1;
    each_key(query, [&](kvkeep::slot s, kvkeep::position distance) {
      const kvkeep::position at = core_->plan.position_of(s);
      const kvkeep::position angle = distance + (core_->plan.raw(at) ? 0 : at);
      if (angle != turned_to) {
        turned = kvkeep::detail::turned_row(encoding, frequencies, angle, q);
        if (rounds) round_to_integers(turned, doubt);
      }
      turned_to = angle;
      lane.copy_key(s, key);
      lane.copy_value(s, value);
      double unsure = 0.0;
      for (std::size_t c = 0; rounds && c < dim; ++c)
        unsure += scale * doubt[c] * std::abs(static_cast<double>(key[c]));
      row.add(scale * dot(std::span<const double>(turned), std::span<const float>(key)), value, unsure);
    });
    return row;
  }

  /// Compares the mass of the first kv head: by slot for a single query, in total for a chunk.
  [[nodiscard]] std::string verify_mass(std::size_t layer) {
    const std::span<const float> mass = evidence_->mass(0);
    std::vector<double> wanted(mass.size());
    double total = 0.0;
    double doubt = 0.0;
    for (const float m : mass) total += static_cast<double>(m);
    const auto all = static_cast<double>(size_.queries * size_.group());
    if (!(std::abs(total - all) <= 1e-4 * all)) return fmt::format("the mass is {} instead of {}", total, all);
    if (size_.queries > 1) return {};
    for (std::size_t head = 0; head < size_.group(); ++head) {
      const reference_row row = expected(layer, 0, head);
      const std::vector<double> weights = row.weights();
      std::size_t i = 0;
      each_key(0, [&](kvkeep::slot s, kvkeep::position) { wanted[index(s)] += weights[i++]; });
      doubt += row.doubt();
    }
    for (std::size_t s = 0; s < mass.size(); ++s) {
      const double off = std::abs(static_cast<double>(mass[s]) - wanted[s]);
      if (!(off <= CodecCase::tolerance + doubt)) {
        return fmt::format("the mass of slot {} is {} instead of {}", s, mass[s], wanted[s]);
      }
    }
    return {};
  }

  problem size_;
  std::unique_ptr<core> core_;
  std::optional<kvkeep::thread_executor> threads_;
  std::optional<kvkeep::attention_evidence<kvkeep::by_products{.mass = true}>> evidence_;
  std::vector<float> q_;    // [queries, query_heads, head_dim]
  std::vector<float> k_;    // [queries, kv_heads, head_dim]
  std::vector<float> v_;    // [queries, kv_heads, head_dim]
  std::vector<float> out_;  // [queries, query_heads, head_dim]
  std::vector<float> surprisals_;
};

}  // namespace kvkeep_bench

#endif
