#include "binomial.hpp"

#include <algorithm>
#include <cmath>

namespace kvkeep_eval {

interval wilson_interval(std::size_t hits, std::size_t trials) {
  constexpr double z = 1.959963984540054;  // the normal distribution's 97.5% quantile
  if (trials == 0) {
    return {};
  }
  const auto n = static_cast<double>(trials);
  const double share = static_cast<double>(hits) / n;
  const double scale = 1 / (1 + z * z / n);
  const double middle = scale * (share + z * z / (2 * n));
  const double half = scale * z * std::sqrt(share * (1 - share) / n + z * z / (4 * n * n));
  return {hits == 0 ? 0 : std::max(middle - half, 0.0), hits == trials ? 1 : std::min(middle + half, 1.0)};
}

}  // namespace kvkeep_eval
