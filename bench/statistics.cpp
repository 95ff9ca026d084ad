#include "statistics.hpp"

#include <algorithm>
#include <cmath>

namespace kvkeep_bench {

double quantile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  const double place = p * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  const double share = place - static_cast<double>(below);
  return values[below] * (1.0 - share) + values[above] * share;
}

double spread(const std::vector<double>& values) {
  return (quantile(values, 0.75) - quantile(values, 0.25)) / median(values);
}

interval median_interval(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  // The number of values below the true median is binomial with p = 1/2: outside = P(at most i of them).
  std::size_t cut = 0;
  double outside = 0.0;
  for (std::size_t i = 0; 2 * i < values.size(); ++i) {
    const auto k = static_cast<double>(i);
    const double log_choices = std::lgamma(count + 1.0) - std::lgamma(k + 1.0) - std::lgamma(count - k + 1.0);
    outside += std::exp(log_choices - count * std::log(2.0));
    if (outside > 0.025) break;
    cut = i;
  }
  return {values[cut], values[values.size() - 1 - cut]};
}

}  // namespace kvkeep_bench
