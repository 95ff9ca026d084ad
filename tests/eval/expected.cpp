#include "expected.hpp"

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "support.hpp"

namespace kvkeep_eval_test {

namespace {

// True if a line was read to its end without an error.
bool complete(std::istringstream& line) { return line.eof() || (line >> std::ws).eof(); }

expected_row read_row(std::istringstream& line) {
  expected_row row;
  line >> row.position >> row.most_likely >> row.log_sum_exp;
  kvkeep_eval::token token = 0;
  for (double logit = 0; line >> token >> logit;) row.logits.emplace_back(token, logit);
  return row;
}

}  // namespace

expected_numbers read_expected() {
  std::ifstream file(data_file("expected_logits.txt"));
  expected_numbers out;
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string kind;
    line >> kind;
    if (kind == "tokens") {
      for (kvkeep_eval::token token = 0; line >> token;) out.tokens.push_back(token);
    } else if (kind == "logits") {
      out.rows.push_back(read_row(line));
    } else if (kind == "perplexity") {
      expected_perplexity p;
      line >> p.spec >> p.tokens >> p.total >> p.beyond_trained;
      out.perplexities.push_back(p);
    } else if (kind == "recompute") {
      expected_recompute r;
      line >> r.window >> r.every >> r.tokens >> r.total >> r.beyond_trained;
      out.recomputed.push_back(r);
    }
    if (!complete(line)) throw std::runtime_error("expected_logits.txt has a line that is not understood: " + text);
  }
  if (out.tokens.empty() || out.rows.empty() || out.perplexities.empty() || out.recomputed.empty()) {
    throw std::runtime_error("expected_logits.txt is missing or incomplete");
  }
  return out;
}

}  // namespace kvkeep_eval_test
