#include "reference.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace kvkeep_bench {

void reference_row::add(double score, std::span<const float> value) {
  scores_.push_back(score);
  values_.insert(values_.end(), value.begin(), value.end());
}

std::string reference_row::compare(std::span<const float> output, double tolerance) const {
  const double top = *std::max_element(scores_.begin(), scores_.end());
  std::vector<double> sums(head_dim_);
  double total = 0.0;
  double largest = 0.0;
  for (std::size_t j = 0; j < scores_.size(); ++j) {
    const double weight = std::exp(scores_[j] - top);
    total += weight;
    for (std::size_t c = 0; c < head_dim_; ++c) {
      const auto value = static_cast<double>(values_[j * head_dim_ + c]);
      sums[c] += weight * value;
      largest = std::max(largest, std::abs(value));
    }
  }
  double error = 0.0;
  for (std::size_t c = 0; c < head_dim_; ++c) {
    const double off = std::abs(static_cast<double>(output[c]) - sums[c] / total);
    if (!(off <= error)) error = off;  // a NaN stays
  }
  if (error <= tolerance * largest) return {};
  return fmt::format("differs by {:.2e} from attention in double; allowed: {:.2e}", error, tolerance * largest);
}

}  // namespace kvkeep_bench
