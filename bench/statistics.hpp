// Order statistics of a list of measurements.
#ifndef KVKEEP_BENCH_STATISTICS_HPP
#define KVKEEP_BENCH_STATISTICS_HPP

#include <cstddef>
#include <vector>

namespace kvkeep_bench {

/// The value below which a share p of the values lies, interpolated; 0.5: the median. At least one value.
[[nodiscard]] double quantile(std::vector<double> values, double p);
[[nodiscard]] inline double median(const std::vector<double>& values) { return quantile(values, 0.5); }

/// The distance of the quartiles, as a share of the median.
[[nodiscard]] double spread(const std::vector<double>& values);

struct interval {
  double low = 0.0;
  double high = 0.0;
};

/// The narrowest pair of order statistics that contains the true median with a probability of at least 95 %, whatever the
/// distribution. Of less than 6 values, which cannot promise that: their whole range.
[[nodiscard]] interval median_interval(std::vector<double> values);

}  // namespace kvkeep_bench

#endif
