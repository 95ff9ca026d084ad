#include "rival.hpp"

#include <algorithm>
#include <cmath>

#include "clock.hpp"
#include "cold_pool.hpp"
#include "normal_rows.hpp"
#include "reference.hpp"

namespace kvkeep_bench {
namespace {

/// As many kv heads as fit half of the pool; and no more than make 1 GiB of scores, which libtorch has twice at once.
std::size_t heads_at_once(const problem& size) {
  const std::size_t by_rows = cold_pool::floats / 2 / (2 * size.tokens * size.head_dim);
  const std::size_t by_scores = (std::size_t{1} << 28) / (size.group() * size.queries * size.tokens);
  return std::clamp<std::size_t>(std::min(by_rows, by_scores), 1, size.kv_heads);
}

}  // namespace

rival::rival(const problem& size, rival_kernel kernel)
    : size_(size),
      kernel_(kernel),
      heads_at_once_(heads_at_once(size)),
      q_(size.query_heads * size.queries * size.head_dim),
      scores_(size.group() * size.queries * size.tokens),
      out_(size.query_heads * size.queries * size.head_dim) {
  fill_normal(q_.floats(), 3, 2.0F);
}

double rival::attend(std::size_t first, std::size_t heads) {
  const std::size_t of_a_head = size_.tokens * size_.head_dim;
  const std::span<const float> rows = cold_pool::instance().next(2 * heads * of_a_head);
  const std::size_t at = first * size_.group() * size_.queries * size_.head_dim;
  last_ = {.heads = heads,
           .group = size_.group(),
           .queries = size_.queries,
           .tokens = size_.tokens,
           .head_dim = size_.head_dim,
           .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size_.head_dim))),
           .keys = rows.data(),
           .values = rows.data() + heads * of_a_head,
           .q = q_.floats().data() + at,
           .scores = scores_.floats().data(),
           .out = out_.floats().data() + at};
  return timed(1, [&] { kernel_(last_); });
}

double rival::run() {
  double seconds = 0.0;
  for (std::size_t h = 0; h < size_.kv_heads; h += heads_at_once_) {
    seconds += attend(h, std::min(heads_at_once_, size_.kv_heads - h));
  }
  return seconds;
}

std::string rival::verify() {
  run();
  const std::size_t dim = size_.head_dim;
  const std::size_t rows = last_.heads * last_.group * last_.queries;
  for (const std::size_t row : {std::size_t{0}, rows - 1}) {
    const std::size_t head = row / (last_.group * last_.queries);
    const std::span<const float> q(last_.q + row * dim, dim);
    reference_row expected(dim);
    for (std::size_t j = 0; j < last_.tokens; ++j) {
      const std::size_t at = (head * last_.tokens + j) * dim;
      const std::span<const float> key(last_.keys + at, dim);
      expected.add(dot(q, key) * static_cast<double>(last_.scale), {last_.values + at, dim});
    }
    if (std::string wrong = expected.compare({last_.out + row * dim, dim}, 2e-5); !wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace kvkeep_bench
