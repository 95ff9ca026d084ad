// clusters: keys and queries around common centres, of various lengths, as those of attention heads are.
#ifndef KVKEEP_TESTS_HNSW_CLUSTERS_HPP
#define KVKEEP_TESTS_HNSW_CLUSTERS_HPP

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "../support/rows.hpp"

namespace kvkeep_test {

[[nodiscard]] inline double dot_of(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t c = 0; c < a.size(); ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  return sum;
}

class clusters {
 public:
  /// spread: of the rows around their centre, as a share of the centres' own.
  clusters(std::size_t dimension, std::size_t count, float spread) : dimension_(dimension), spread_(spread) {
    dice random(17);
    for (std::size_t i = 0; i < dimension * count; ++i) centres_.push_back(random.normal());
  }
  [[nodiscard]] std::vector<float> key(std::size_t i) const { return row(2 * i); }
  [[nodiscard]] std::vector<float> query(std::size_t i) const { return row(2 * i + 1); }

 private:
  [[nodiscard]] std::vector<float> row(std::uint64_t number) const {
    dice random(number + 1);
    const std::size_t centre = random.between(0, centres_.size() / dimension_ - 1) * dimension_;
    const float length = std::exp(0.2F * random.normal());
    std::vector<float> out(dimension_);
    for (std::size_t c = 0; c < dimension_; ++c) out[c] = length * (centres_[centre + c] + spread_ * random.normal());
    return out;
  }

  std::size_t dimension_;
  float spread_;
  std::vector<float> centres_{};
};

}  // namespace kvkeep_test

#endif
