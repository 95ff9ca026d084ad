#ifndef KVKEEP_EVAL_BINOMIAL_HPP
#define KVKEEP_EVAL_BINOMIAL_HPP

#include <cstddef>

namespace kvkeep_eval {

// Bounds of a probability.
struct interval {
  double low = 0;
  double high = 1;
};

// The 95% confidence interval of a probability of which `hits` in `trials` were seen, hits <= trials. [0, 1] without trials.
// Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
[[nodiscard]] interval wilson_interval(std::size_t hits, std::size_t trials);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_BINOMIAL_HPP
