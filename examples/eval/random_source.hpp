#ifndef KVKEEP_EVAL_RANDOM_SOURCE_HPP
#define KVKEEP_EVAL_RANDOM_SOURCE_HPP

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace kvkeep_eval {

// Random numbers that a seed and a stream's number decide, the same with every compiler: std::mt19937_64 is prescribed to
// the bit, the distributions of the standard library are not.
class random_source {
 public:
  explicit random_source(std::uint64_t seed, std::uint64_t stream = 0) {
    std::seed_seq mixed{low(seed), high(seed), low(stream), high(stream)};
    engine_.seed(mixed);
  }

  // Uniform in [0, bound), bound > 0.
  [[nodiscard]] std::size_t below(std::size_t bound) {
    const std::uint64_t uneven = (std::uint64_t{0} - bound) % bound;  // 2^64 modulo bound: so many would come too often
    std::uint64_t drawn = engine_();
    while (drawn < uneven) {
      drawn = engine_();
    }
    return static_cast<std::size_t>(drawn % bound);
  }

  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i) {
      std::swap(values[i - 1], values[below(i)]);
    }
  }

 private:
  [[nodiscard]] static std::uint32_t low(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(x); }
  [[nodiscard]] static std::uint32_t high(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(x >> 32U); }

  std::mt19937_64 engine_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RANDOM_SOURCE_HPP
