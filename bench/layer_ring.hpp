// layer_ring: the layers of a cache, attended in turn so that each is cold; cache_contender: one way of attending them.
#ifndef KVKEEP_BENCH_LAYER_RING_HPP
#define KVKEEP_BENCH_LAYER_RING_HPP

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "clock.hpp"
#include "contender.hpp"
#include "model_cache.hpp"

namespace kvkeep_bench {

/// What is noted about a row's own calls besides their seconds.
struct call_log {
  std::vector<double> begin_seconds;  ///< that opening a step took
  std::vector<double> first_seconds;  ///< of the calls that were the first of their step
};

/// The cache has so many layers that they are cold when their turn comes again. A step attends each once and is left
/// without commit: the next begins where it began. Contenders that share a ring take layers in turn.
class layer_ring {
 public:
  /// A ring for calls of the mode `most` and of less. `cold`: of so many layers; else of two at most. The log must outlive it.
  layer_ring(const cache_kind& kind, const problem& size, const call_mode& most, bool cold, call_log& log);

  /// Bytes of keys and values that a call has to read.
  [[nodiscard]] double bytes() const noexcept { return bytes_; }
  /// The seconds of a call, on the clock for so many threads.
  double run(const call_mode& how, std::size_t clock_threads);
  /// Whether the last call was the first of its step.
  [[nodiscard]] bool first() const noexcept { return layer_ == 1; }
  [[nodiscard]] std::string verify(const call_mode& how);

 private:
  void begin();

  std::unique_ptr<model_cache> cache_;
  call_log& log_;
  std::size_t layer_ = 0;
  double bytes_ = 0.0;
};

/// Calls of one mode. `clock_threads`: 2 where the call is compared with one of two threads, so that both have one clock.
class cache_contender final : public contender {
 public:
  cache_contender(std::shared_ptr<layer_ring> ring, const call_mode& how, std::size_t clock_threads,
                  call_log* log = nullptr)
      : ring_(std::move(ring)), how_(how), clock_threads_(clock_threads), log_(log) {}

  double run() override {
    const double seconds = ring_->run(how_, clock_threads_);
    if (log_ != nullptr && ring_->first()) log_->first_seconds.push_back(seconds);
    return seconds;
  }
  [[nodiscard]] std::string verify() override { return ring_->verify(how_); }

 private:
  std::shared_ptr<layer_ring> ring_;
  call_mode how_;
  std::size_t clock_threads_;
  call_log* log_;
};

}  // namespace kvkeep_bench

#endif
