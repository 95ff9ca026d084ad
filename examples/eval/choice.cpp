#include "choice.hpp"

#include "loss.hpp"

#include <algorithm>

namespace kvkeep_eval {

choice_score score_of(const matrix& earlier, Eigen::Index before, const matrix& logits, Eigen::Index first,
                      std::span<const token> tokens) {
  choice_score out{.log_probability = 0, .first = 0, .most_likely = true, .tokens = tokens.size()};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const matrix& from = i == 0 ? earlier : logits;
    const Eigen::Index row = i == 0 ? before : first + index(i) - 1;
    const double log_probability = -loss(from, row, tokens[i]);
    Eigen::Index best = 0;
    from.row(row).maxCoeff(&best);
    out.log_probability += log_probability;
    out.first = i == 0 ? log_probability : out.first;
    out.most_likely = out.most_likely && best == tokens[i];
  }
  return out;
}

std::size_t choose(std::span<const choice_score> scores, choice_rule rule) {
  const auto value = [rule](const choice_score& score) {
    switch (rule) {
      case choice_rule::sum:
        return score.log_probability;
      case choice_rule::published:
        return score.first;
      case choice_rule::mean:
        break;
    }
    return score.log_probability / static_cast<double>(score.tokens);
  };
  const auto less = [&](const choice_score& a, const choice_score& b) { return value(a) < value(b); };
  auto best = std::max_element(scores.begin(), scores.end(), less);
  if (rule == choice_rule::published) {
    const auto exact = std::find_if(scores.begin(), scores.end(), [](const choice_score& s) { return s.most_likely; });
    best = exact == scores.end() ? best : exact;
  }
  return static_cast<std::size_t>(best - scores.begin());
}

}  // namespace kvkeep_eval
