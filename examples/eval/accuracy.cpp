#include "accuracy.hpp"

#include "binomial.hpp"

#include <fmt/format.h>

namespace kvkeep_eval {

std::string percent(double share) { return fmt::format("{:.1f}", 100 * share); }

std::string share_text(const accuracy& of) {
  if (of.asked == 0) {
    return "-";
  }
  const interval bounds = wilson_interval(of.hits, of.asked);
  return fmt::format("{} [{}, {}]", percent(static_cast<double>(of.hits) / static_cast<double>(of.asked)),
                     percent(bounds.low), percent(bounds.high));
}

}  // namespace kvkeep_eval
