// reference_row: attention of one query in double precision, over keys that are given one by one.
#ifndef KVKEEP_BENCH_REFERENCE_HPP
#define KVKEEP_BENCH_REFERENCE_HPP

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace kvkeep_bench {

class reference_row {
 public:
  explicit reference_row(std::size_t head_dim) : head_dim_(head_dim) {}

  /// Adds a key with its score and its value, [head_dim]. The score may be off by `unsure` and still be right.
  void add(double score, std::span<const float> value, double unsure = 0.0);
  /// Softmax of the scores, in the order in which they were added.
  [[nodiscard]] std::vector<double> weights() const;
  /// How far the sum of the weights that differ may be off because scores are unsure.
  [[nodiscard]] double doubt() const;
  /// Compares with an output, [head_dim]: an error beyond `tolerance` (and doubt) times the largest value is said in words,
  /// else empty.
  [[nodiscard]] std::string compare(std::span<const float> output, double tolerance) const;

 private:
  std::size_t head_dim_;
  double unsure_ = 0.0;  // the largest
  std::vector<double> scores_;
  std::vector<float> values_;  // [keys][head_dim]
};

/// Rounds a query as it is rounded for keys that are integers: a group of 32 components to multiples of 1/127 of its largest
/// magnitude. doubt [head_dim]: by how much a component may be off, because it lies so close to the middle between two
/// multiples that a float's error decides; 0 for almost all.
void round_to_integers(std::span<double> query, std::span<double> doubt);

/// The dot product in double.
template <class A, class B>
[[nodiscard]] double dot(std::span<const A> a, std::span<const B> b) {
  double sum = 0.0;
  for (std::size_t c = 0; c < a.size(); ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  return sum;
}

}  // namespace kvkeep_bench

#endif
