// cache_contender: step.attend of a cache, one cold layer a call.
#ifndef KVKEEP_BENCH_CACHE_CONTENDER_HPP
#define KVKEEP_BENCH_CACHE_CONTENDER_HPP

#include <cstddef>
#include <string>
#include <vector>

#include "clock.hpp"
#include "cold_pool.hpp"
#include "contender.hpp"
#include "filled_cache.hpp"

namespace kvkeep_bench {

/// A cache as cache_contender shows it whatever its types.
class any_cache_contender : public contender {
 public:
  /// Bytes of keys and values that a call has to read.
  [[nodiscard]] virtual double bytes() const = 0;
  /// Seconds that begin took, of every step.
  [[nodiscard]] virtual const std::vector<double>& begin_seconds() const = 0;
};

/// The cache has so many layers that they are cold when their turn comes again. A step attends each once and is left
/// without commit: the next begins where it began.
template <class PolicyCase, class CodecCase>
class cache_contender final : public any_cache_contender {
 public:
  using filled = filled_cache<PolicyCase, CodecCase>;

  explicit cache_contender(const problem& size)
      : size_(size), cache_(size, cold_bytes / layer_bytes<typename filled::codec>(size, size.tokens) + 1) {
    begin();
    bytes_ = static_cast<double>(layer_bytes<typename filled::codec>(size, cache_.tokens_read()));
    begin();
  }

  double run() override {
    if (layer_ == cache_.layers()) begin();
    const double seconds = timed(size_.threads, [&] { cache_.attend(layer_); });
    ++layer_;
    return seconds;
  }
  [[nodiscard]] std::string verify() override {
    begin();
    cache_.attend(cache_.layers() - 1);
    std::string wrong = cache_.verify(cache_.layers() - 1);
    begin();
    return wrong;
  }
  [[nodiscard]] double bytes() const override { return bytes_; }
  [[nodiscard]] const std::vector<double>& begin_seconds() const override { return begin_seconds_; }

 private:
  void begin() {
    cache_.leave();
    begin_seconds_.push_back(timed(1, [&] { cache_.begin(); }));
    layer_ = 0;
  }

  problem size_;
  filled cache_;
  std::size_t layer_ = 0;
  double bytes_ = 0.0;
  std::vector<double> begin_seconds_;
};

}  // namespace kvkeep_bench

#endif
