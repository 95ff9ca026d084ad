#include "reference.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace kvkeep_bench {

void reference_row::add(double score, std::span<const float> value, double unsure) {
  unsure_ = std::max(unsure_, unsure);
  scores_.push_back(score);
  values_.insert(values_.end(), value.begin(), value.end());
}

std::vector<double> reference_row::weights() const {
  const double top = *std::max_element(scores_.begin(), scores_.end());
  std::vector<double> out(scores_.size());
  double total = 0.0;
  for (std::size_t j = 0; j < out.size(); ++j) {
    out[j] = std::exp(scores_[j] - top);
    total += out[j];
  }
  for (double& w : out) w /= total;
  return out;
}

double reference_row::doubt() const { return std::expm1(2.0 * unsure_); }

std::string reference_row::compare(std::span<const float> output, double tolerance) const {
  const std::vector<double> weight = weights();
  std::vector<double> sums(head_dim_);
  double largest = 0.0;
  for (std::size_t j = 0; j < scores_.size(); ++j) {
    for (std::size_t c = 0; c < head_dim_; ++c) {
      const auto value = static_cast<double>(values_[j * head_dim_ + c]);
      sums[c] += weight[j] * value;
      largest = std::max(largest, std::abs(value));
    }
  }
  double error = 0.0;
  for (std::size_t c = 0; c < head_dim_; ++c) {
    const double off = std::abs(static_cast<double>(output[c]) - sums[c]);
    if (!(off <= error)) error = off;  // a NaN stays
  }
  const double allowed = (tolerance + doubt()) * largest;
  if (error <= allowed) return {};
  return fmt::format("differs by {:.2e} from attention in double; allowed: {:.2e}", error, allowed);
}

void round_to_integers(std::span<double> query, std::span<double> doubt) {
  constexpr std::size_t group = 32;
  constexpr double largest_integer = 127.0;
  constexpr double close = 5e-4;  // of an integer: what floats may be off by when they are turned and scaled
  for (std::size_t g = 0; g < query.size(); g += group) {
    const std::span<double> part = query.subspan(g, group);
    double most = 0.0;
    for (const double x : part) most = std::max(most, std::abs(x));
    const double step = most / largest_integer;
    for (std::size_t c = 0; c < group; ++c) {
      const double exact = step > 0.0 ? part[c] / step : 0.0;
      const double whole = std::round(exact);
      doubt[g + c] = std::abs(exact - whole) > 0.5 - close ? step : 0.0;
      part[c] = step * whole;
    }
  }
}

}  // namespace kvkeep_bench
