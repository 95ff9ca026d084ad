#ifndef KVKEEP_EVAL_LOSS_HPP
#define KVKEEP_EVAL_LOSS_HPP

#include "matrix.hpp"
#include "tokenizer.hpp"

#include <cmath>

namespace kvkeep_eval {

// The loss of `target` under row `row` of `logits`, [rows, vocabulary]: -log softmax(logits)[target] in nats. The
// exponentials are single precision, their sum double.
[[nodiscard]] inline double loss(const matrix& logits, Eigen::Index row, token target) {
  const auto scores = logits.row(row);
  const float largest = scores.maxCoeff();
  const double sum = (scores.array() - largest).exp().cast<double>().sum();
  return std::log(sum) + static_cast<double>(largest) - static_cast<double>(scores(target));
}

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_LOSS_HPP
