#ifndef KVKEEP_EVAL_PERPLEXITY_HPP
#define KVKEEP_EVAL_PERPLEXITY_HPP

#include "matrix.hpp"
#include "tokenizer.hpp"

#include <cmath>
#include <cstddef>
#include <limits>

namespace kvkeep_eval {

// The mean surprise of a set of tokens: exp of their mean loss; not a number while the set is empty.
class perplexity {
 public:
  void add(double nats) noexcept {
    nats_ += nats;
    ++tokens_;
  }
  [[nodiscard]] bool empty() const noexcept { return tokens_ == 0; }
  [[nodiscard]] double value() const noexcept {
    return empty() ? std::numeric_limits<double>::quiet_NaN() : std::exp(nats_ / static_cast<double>(tokens_));
  }

 private:
  double nats_ = 0;
  std::size_t tokens_ = 0;
};

// The loss of `target` under row `row` of `logits`, [rows, vocabulary]: -log softmax(logits)[target] in nats. The
// exponentials are single precision, their sum double.
[[nodiscard]] inline double loss(const matrix& logits, Eigen::Index row, token target) {
  const auto scores = logits.row(row);
  const float largest = scores.maxCoeff();
  const double sum = (scores.array() - largest).exp().cast<double>().sum();
  return std::log(sum) + static_cast<double>(largest) - static_cast<double>(scores(target));
}

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_PERPLEXITY_HPP
