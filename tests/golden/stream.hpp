// A stream of tokens through a cache and, beside it, a planner that tells what each query reads.
#ifndef KVKEEP_TESTS_GOLDEN_STREAM_HPP
#define KVKEEP_TESTS_GOLDEN_STREAM_HPP

#include <algorithm>
#include <bit>

#include "check.hpp"

namespace golden {

/// A key that a query reads.
struct key_read {
  position at = 0;
  position away = 0;  ///< the distance the policy gives it
};
/// What one query reads, oldest first.
using query_reads = std::vector<key_read>;

[[nodiscard]] positions positions_of(const query_reads& reads);
/// The positions that any of these queries reads, ascending.
[[nodiscard]] positions read_by_any(const std::vector<query_reads>& queries);

/// What a query reads that is left the first `sinks` tokens and the newest `window`, itself included.
[[nodiscard]] positions sinks_and_window(position query, std::size_t sinks, std::size_t window);

/// What the query 0 .. n - 1 of a planner's open step reads.
template <class Policy>
[[nodiscard]] query_reads reads_of(kvkeep::planner<Policy>& plan, std::size_t query) {
  const kvkeep::query_view view = plan.view(0, query);
  query_reads out;
  for (const kvkeep::key_span& span : view.spans) {
    for (std::uint32_t left = span.mask; left != 0; left &= left - 1) {
      const auto row = static_cast<std::size_t>(std::countr_zero(left));
      const kvkeep::slot s = kvkeep::to_slot(std::size_t{span.block} * kvkeep::block_tokens + row);
      out.push_back({plan.position_of(s), view.distance[kvkeep::index(s)]});
    }
  }
  require(out.size() == view.keys, "a view of {} keys says it has {}", out.size(), view.keys);
  std::sort(out.begin(), out.end(), [](const key_read& a, const key_read& b) { return a.at < b.at; });
  return out;
}

/// Runs a step of n tokens of which the first `kept` stay, and returns what each of the n reads.
template <class Policy>
std::vector<query_reads> feed(kvkeep::planner<Policy>& plan, std::size_t n, std::size_t kept,
                              const kvkeep::commit_evidence& evidence = {}) {
  std::vector<query_reads> out;
  plan.begin(n);
  for (std::size_t query = 0; query < n; ++query) out.push_back(reads_of(plan, query));
  plan.commit(kept, evidence);
  return out;
}
template <class Policy>
std::vector<query_reads> feed(kvkeep::planner<Policy>& plan, std::size_t n) {
  return feed(plan, n, n);
}

/// Runs steps of at most `most` tokens until `tokens` more are in.
template <class Policy>
void feed_all(kvkeep::planner<Policy>& plan, std::size_t tokens, std::size_t most) {
  for (std::size_t t = 0; t < tokens; t += most) {
    plan.begin((std::min)(most, tokens - t));
    plan.commit();
  }
}

/// A planner of one layer and one head.
template <class Policy>
[[nodiscard]] kvkeep::planner<Policy> plan_of(const Policy& policy, std::size_t max_step) {
  return kvkeep::make_planner({1, 1, 1, 16}, policy, {.max_step = (std::max)(max_step, std::size_t{1})});
}

/// The tensors of a golden file.
struct attention_case {
  kvkeep::model_shape shape{};
  std::size_t tokens = 0;
  std::size_t longest_step = 0;
  kvkeep::position_encoding encoding{};
  std::vector<float> q;       // [tokens, query_heads, head_dim], before RoPE
  std::vector<float> k;       // [tokens, kv_heads, head_dim], before RoPE
  std::vector<float> v;       // [tokens, kv_heads, head_dim]
  std::vector<float> output;  // [tokens, query_heads, head_dim]
};
/// The tensors of a file; its steps must cover the stream in order.
[[nodiscard]] attention_case load_attention_case(const json& file);

/// Outputs may differ by so much.
inline constexpr double output_tolerance = 2e-5;

/// Compares the outputs of tokens first .. first + count - 1, [count, query_heads, head_dim], with the file's.
void compare_outputs(const attention_case& data, std::size_t first, std::size_t count, const std::vector<float>& ours,
                     tally& counted);

/// The tokens of a golden file, in order, under a policy.
template <class Policy>
class stream {
 public:
  stream(const attention_case& data, const Policy& policy, tally& counted)
      : data_(data),
        counted_(counted),
        cache_(kvkeep::make_cache(data.shape, policy, {.positions = data.encoding, .max_step = longest(data)})),
        plan_(kvkeep::make_planner(data.shape, policy, {.max_step = longest(data)})) {}

  /// Appends the next tokens, compares their outputs with the file's and returns what each query read.
  std::vector<query_reads> append(std::size_t count, const kvkeep::commit_evidence& evidence = {}) {
    const kvkeep::model_shape& s = data_.shape;
    const std::size_t query_row = s.query_heads * s.head_dim;
    const std::size_t kv_row = s.kv_heads * s.head_dim;
    std::vector<float> out(count * query_row, std::nanf(""));
    auto step = cache_.begin(count);
    step.attend(0, {data_.q.data() + next_ * query_row, count, s.query_heads, s.head_dim},
                {data_.k.data() + next_ * kv_row, count, s.kv_heads, s.head_dim},
                {data_.v.data() + next_ * kv_row, count, s.kv_heads, s.head_dim},
                {out.data(), count, s.query_heads, s.head_dim});
    step.commit(evidence);
    compare_outputs(data_, next_, count, out, counted_);
    next_ += count;
    std::vector<query_reads> reads = feed(plan_, count, count, evidence);
    agree();
    return reads;
  }
  void reserve(std::size_t n) {
    cache_.reserve(n);
    plan_.reserve(n);
    agree();
  }
  void erase(position first, position last) {
    cache_.erase(first, last);
    plan_.erase(first, last);
    agree();
  }

  [[nodiscard]] std::size_t next() const noexcept { return next_; }
  [[nodiscard]] positions held() const { return cache_.held(); }
  [[nodiscard]] positions next_held() const { return cache_.next_held(); }

 private:
  [[nodiscard]] static std::size_t longest(const attention_case& data) {
    return (std::max)(data.longest_step, std::size_t{8});
  }
  void agree() const {
    require(cache_.held() == plan_.held(), "the cache and the planner disagree on what is held after token {}", next_);
    require(cache_.next_held() == plan_.next_held(), "the cache and the planner disagree on next_held after token {}",
            next_);
  }

  const attention_case& data_;
  tally& counted_;
  kvkeep::cache<Policy> cache_;
  kvkeep::planner<Policy> plan_;
  std::size_t next_ = 0;
};

}  // namespace golden

#endif
