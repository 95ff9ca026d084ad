#ifndef KVKEEP_EVAL_RECALL_REPORT_HPP
#define KVKEEP_EVAL_RECALL_REPORT_HPP

#include "accuracy.hpp"

#include "tier_choice.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace kvkeep_eval {

// What one layer retrieved when a fact was asked for that was held no more. A word is retrieved where the token that comes
// next in the right answer is.
struct layer_lookups {
  accuracy first{"retrieved at the answer's first token", {}, 0, 0};
  accuracy wrong{"retrieved at a wrong answer's first wrong token", {}, 0, 0};
  double rank = 0;  // the sum of ranks at the first token, where it was retrieved; 1 is the best

  void add(const layer_lookups& other) noexcept {
    first.add(other.first);
    wrong.add(other.wrong);
    rank += other.rank;
  }
  [[nodiscard]] double mean_rank() const noexcept {
    return first.hits == 0 ? 0 : rank / static_cast<double>(first.hits);
  }
};

// What was answered, and what had been hidden.
struct recall_answer {
  std::string hidden;
  std::string given;  // up to the bracket that closes it, or as far as it went
};

// How one kind of fact at one depth was recalled.
struct recall_point {
  std::string kind;
  std::size_t depth = 0;  // percent
  accuracy whole{"whole answers", {}, 0, 0};
  accuracy first{"first tokens", {}, 0, 0};
  accuracy held{"words held when asked for", {}, 0, 0};
  std::vector<layer_lookups> layers;
  std::vector<recall_answer> answers;  // document by document

  // The other's questions as well, without their answers.
  void add(const recall_point& other) {
    whole.add(other.whole);
    first.add(other.first);
    held.add(other.held);
    layers.resize(other.layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i) {
      layers[i].add(other.layers[i]);
    }
  }
};

// One policy on documents of one length.
struct recall_result {
  std::string spec;
  std::size_t length = 0;  // tokens
  std::string skipped;     // why it was not run; empty if it was
  std::size_t documents = 0;
  std::size_t tokens = 0;  // read, questions and answers included
  double tokens_per_second = 0;
  std::size_t kv_bytes = 0;
  bool retrieves = false;            // something was retrieved
  tier_use tiers;                    // of memory units, all documents together
  std::vector<recall_point> points;  // depth by depth, kind by kind
};

// The whole report.
struct recall_report {
  std::string machine;
  std::string model;
  std::size_t trained_length = 0;
  std::string text;
  std::size_t seed = 0;
  std::size_t chunk = 0;
  std::size_t documents = 0;       // of each length and depth
  std::size_t question_room = 0;   // tokens, beside the document's
  std::vector<std::string> kinds;  // of facts
  std::vector<std::size_t> depths;
  std::vector<std::size_t> lengths;
  bool interrupted = false;
  std::string error;                   // what ended the run before its time; empty if nothing did
  std::vector<recall_result> results;  // policy by policy, each length by length
};

// The sum of the points of a kind, or of all kinds if `kind` is empty, at one depth, or at all if it is none of theirs.
inline constexpr std::size_t all_depths = 101;
[[nodiscard]] inline recall_point sum_of(const recall_result& result, const std::string& kind,
                                         std::size_t depth = all_depths) {
  recall_point out;
  out.kind = kind;
  out.depth = depth;
  for (const recall_point& point : result.points) {
    if ((kind.empty() || point.kind == kind) && (depth == all_depths || point.depth == depth)) {
      out.add(point);
    }
  }
  return out;
}

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECALL_REPORT_HPP
