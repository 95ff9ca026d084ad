// cold_pool: memory that is not in any cache, for the baselines and the read limit.
#ifndef KVKEEP_BENCH_COLD_POOL_HPP
#define KVKEEP_BENCH_COLD_POOL_HPP

#include <cstddef>
#include <span>

#include "huge_buffer.hpp"

namespace kvkeep_bench {

/// What calls rotate over: more than any cache holds, so that each finds its memory cold, as a decode step does where the
/// other layers and the weights pass between two visits to a layer.
inline constexpr std::size_t cold_bytes = std::size_t{384} << 20;

/// A ring of random numbers.
class cold_pool {
 public:
  static constexpr std::size_t floats = (std::size_t{512} << 20) / sizeof(float);

  /// The one of this process, made when it is first wanted.
  [[nodiscard]] static cold_pool& instance();

  /// The `count` floats that were not touched for the longest time; count <= floats.
  [[nodiscard]] std::span<const float> next(std::size_t count);

 private:
  cold_pool();

  huge_buffer memory_;
  std::size_t at_ = 0;
};

}  // namespace kvkeep_bench

#endif
