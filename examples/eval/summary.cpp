#include "summary.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace kvkeep_eval {

namespace {

constexpr std::size_t most_batches = 100;
constexpr std::size_t fewest_batches = 10;
constexpr std::size_t shortest_batch = 64;  // positions

// The sum of some numbers.
struct tally {
  double sum = 0;
  std::size_t count = 0;

  void add(double x) noexcept {
    sum += x;
    ++count;
  }
  [[nodiscard]] double mean() const noexcept { return sum / static_cast<double>(count); }
};

// The standard error of the mean of all batches, which need not be equally full (a ratio estimator).
std::optional<double> standard_error(const std::vector<tally>& batches, const tally& all) {
  double squares = 0;
  std::size_t used = 0;
  for (const tally& batch : batches) {
    if (batch.count > 0) {
      const double apart = batch.sum - static_cast<double>(batch.count) * all.mean();
      squares += apart * apart;
      ++used;
    }
  }
  if (used < fewest_batches) {
    return std::nullopt;
  }
  const auto n = static_cast<double>(used);
  return std::sqrt(squares * n / (n - 1)) / static_cast<double>(all.count);
}

}  // namespace

std::optional<double> perplexity(std::span<const float> losses) {
  tally all;
  for (const float loss : losses) {
    if (measured(loss)) {
      all.add(static_cast<double>(loss));
    }
  }
  return all.count == 0 ? std::nullopt : std::optional(std::exp(all.mean()));
}

double quantile(std::vector<float> values, double fraction) {
  if (values.empty()) {
    return 0;
  }
  const auto rank = static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(values.size())));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(rank, 1) - 1);
  std::nth_element(values.begin(), at, values.end());
  return static_cast<double>(*at);
}

std::vector<std::size_t> curve_begins(std::size_t tokens) {
  const std::size_t widest = std::max<std::size_t>(tokens / 64, 16);
  std::vector<std::size_t> begins;
  std::size_t width = 0;
  for (std::size_t at = 0; at < tokens; at += width) {
    width = std::clamp<std::size_t>(at / 8, 16, widest);
    if (at == 0 || tokens - at >= width) {  // a shorter rest belongs to the point before
      begins.push_back(at);
    }
  }
  return begins;
}

std::vector<curve_point> curve(const stream_record& record, std::span<const float> losses, std::size_t least) {
  const std::vector<std::size_t> begins = curve_begins(losses.size());
  std::vector<curve_point> points;
  auto step = record.steps.begin();
  auto memory = record.memory.begin();
  std::vector<float> milliseconds;
  curve_point next;
  tally nats;
  for (std::size_t i = 0; i < begins.size(); ++i) {
    const std::size_t end = i + 1 < begins.size() ? begins[i + 1] : losses.size();
    for (std::size_t at = begins[i]; at < end; ++at) {
      if (measured(losses[at])) {
        nats.add(static_cast<double>(losses[at]));
      }
    }
    for (; step != record.steps.end() && step->position < end; ++step) {
      milliseconds.push_back(step->milliseconds);
    }
    for (; memory != record.memory.end() && memory->position < end; ++memory) {
      next.rss_bytes = memory->rss_bytes;
    }
    if (nats.count == 0 || (nats.count < least && end < losses.size())) {
      continue;
    }
    next.mean = nats.mean();
    next.count = nats.count;
    if (!milliseconds.empty()) {  // otherwise a step that began earlier goes on
      next.step_ms = quantile(std::exchange(milliseconds, {}), 0.5);
    }
    points.push_back(next);
    next.position = end;
    nats = {};
  }
  return points;
}

std::optional<paired_difference> difference(std::span<const float> losses, std::span<const float> baseline,
                                            std::size_t first) {
  std::size_t end = losses.size();
  while (end > first && !(measured(losses[end - 1]) && measured(baseline[end - 1]))) {
    --end;  // one of the two ended here
  }
  const std::size_t length = end - std::min(first, end);
  const std::size_t batch_count = std::clamp<std::size_t>(length / shortest_batch, 1, most_batches);
  std::vector<tally> batches(batch_count);
  tally all;
  for (std::size_t i = 0; i < length; ++i) {
    const float loss = losses[first + i];
    const float other = baseline[first + i];
    if (measured(loss) && measured(other)) {
      const double apart = static_cast<double>(loss) - static_cast<double>(other);
      batches[i * batch_count / length].add(apart);
      all.add(apart);
    }
  }
  if (all.count == 0) {
    return std::nullopt;
  }
  return paired_difference{.positions = all.count, .mean = all.mean(), .standard_error = standard_error(batches, all)};
}

std::vector<float> where_measured(std::span<const float> losses, std::span<const float> other) {
  std::vector<float> out(losses.begin(), losses.end());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!measured(other[i])) {
      out[i] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  return out;
}

}  // namespace kvkeep_eval
