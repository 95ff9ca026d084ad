#ifndef KVKEEP_EVAL_ACCURACY_HPP
#define KVKEEP_EVAL_ACCURACY_HPP

#include <cstddef>
#include <optional>
#include <string>

namespace kvkeep_eval {

// How often a model chose what it should.
struct accuracy {
  std::string name;
  std::optional<double> chance;  // what guessing gives; nothing where it makes no sense
  std::size_t hits = 0;
  std::size_t asked = 0;

  void add(bool hit) noexcept {
    hits += hit ? 1U : 0U;
    ++asked;
  }
  // The hits and questions of another one as well.
  void add(const accuracy& other) noexcept {
    hits += other.hits;
    asked += other.asked;
  }
};

// A share in percent: "12.3".
[[nodiscard]] std::string percent(double share);

// The share of hits with its 95% interval, in percent: "12.3 [4.5, 67.8]"; "-" if nothing was asked.
[[nodiscard]] std::string share_text(const accuracy& of);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_ACCURACY_HPP
