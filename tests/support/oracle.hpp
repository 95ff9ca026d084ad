// What one layer of a step must give, query by query: the reference on what a twin planner says that the query reads.
#ifndef KVKEEP_TESTS_SUPPORT_ORACLE_HPP
#define KVKEEP_TESTS_SUPPORT_ORACLE_HPP

#include <vector>

#include "codecs.hpp"

namespace kvkeep_test {

using f32s = stored_as<kvkeep::f32, kvkeep::f32>;

/// One query of one kv head: the keys it reads, in any order, and what attention gives.
struct query_truth {
  std::vector<position> keys;
  std::vector<std::vector<double>> weights;  // [group][keys]
  std::vector<double> log_sum_exp;           // [group]
  std::vector<double> output;                // [group * head_dim]
};

/// The options of a cache as the reference takes them.
inline kvkeep::reference_options as_reference(const kvkeep::cache_options& options) {
  return {.positions = options.positions,
          .scale = static_cast<double>(options.scale),
          .softcap = static_cast<double>(options.softcap),
          .sink_logits = {options.sink_logits.begin(), options.sink_logits.end()}};
}

/// The truth of query t in the open step of a planner, for one kv head of a layer whose rows are rows_of(shape, layer).
template <class Codecs, class Planner>
query_truth truth_of(Planner& plan, const kvkeep::model_shape& shape, const kvkeep::cache_options& options,
                     std::size_t layer, std::size_t kv_head, std::size_t t) {
  const kvkeep::query_view seen = plan.view(plan.unit_of(layer, kv_head), t);
  std::vector<key_read> keys;
  std::vector<float> k;
  std::vector<float> v;
  for (const kvkeep::key_span& span : seen.spans) {
    for (std::size_t r = 0; r < kvkeep::block_tokens; ++r) {
      if ((span.mask >> r & 1U) == 0) continue;
      const std::size_t s = span.block * kvkeep::block_tokens + r;
      const position at = plan.position_of(kvkeep::to_slot(s));
      keys.push_back({at, seen.distance[s], span.raw});
      const layer_rows row = rows_of(shape, layer, at, 1);
      k.insert(k.end(), row.k.begin(), row.k.end());
      v.insert(v.end(), row.v.begin(), row.v.end());
    }
  }
  const bool turned = plan.storage().scattered && std::holds_alternative<kvkeep::rope>(options.positions);
  const layer_rows query = rows_of(shape, layer, plan.next_position() + static_cast<position>(t), 1);
  const auto all = attention_as_stored<Codecs>(shape, as_reference(options), turned, query.q, keys, k, v);
  query_truth out;
  for (const key_read& read : keys) out.keys.push_back(read.at);
  for (std::size_t h = kv_head * shape.group(); h < (kv_head + 1) * shape.group(); ++h) {
    const auto weights = all.mass.begin() + static_cast<std::ptrdiff_t>(h * keys.size());
    const auto output = all.output.begin() + static_cast<std::ptrdiff_t>(h * shape.head_dim);
    out.weights.emplace_back(weights, weights + static_cast<std::ptrdiff_t>(keys.size()));
    out.log_sum_exp.push_back(all.log_sum_exp[h]);
    out.output.insert(out.output.end(), output, output + static_cast<std::ptrdiff_t>(shape.head_dim));
  }
  return out;
}

/// Attends one layer of a step over rows_of(shape, layer, first), with what is given beyond the rows; returns the outputs.
template <class Step, class... More>
std::vector<float> attend_layer(Step& step, const kvkeep::model_shape& shape, std::size_t layer, position first,
                                More&&... more) {
  const std::size_t n = step.tokens();
  layer_rows rows = rows_of(shape, layer, first, n);
  step.attend(layer, view(std::as_const(rows.q), n, shape.query_heads, shape.head_dim),
              view(std::as_const(rows.k), n, shape.kv_heads, shape.head_dim),
              view(std::as_const(rows.v), n, shape.kv_heads, shape.head_dim),
              view(rows.out, n, shape.query_heads, shape.head_dim), std::forward<More>(more)...);
  return std::move(rows.out);
}

/// An executor of one thread that behaves like some: the last task first, workers by turns.
struct scrambled_executor {
  std::size_t count = 1;
  [[nodiscard]] std::size_t workers() const { return count; }
  void run(std::size_t tasks, kvkeep::task_ref f) const {
    for (std::size_t task = tasks; task-- > 0;) f(task, task * 7 % count);
  }
};

}  // namespace kvkeep_test

#endif
