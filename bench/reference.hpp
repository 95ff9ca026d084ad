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

  /// Adds a key with its score and its value, [head_dim].
  void add(double score, std::span<const float> value);
  /// Compares with an output, [head_dim]: an error beyond `tolerance` times the largest value is said in words, else empty.
  [[nodiscard]] std::string compare(std::span<const float> output, double tolerance) const;

 private:
  std::size_t head_dim_;
  std::vector<double> scores_;
  std::vector<float> values_;  // [keys][head_dim]
};

/// The dot product in double.
template <class A, class B>
[[nodiscard]] double dot(std::span<const A> a, std::span<const B> b) {
  double sum = 0.0;
  for (std::size_t c = 0; c < a.size(); ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  return sum;
}

}  // namespace kvkeep_bench

#endif
