// now: seconds on the clock that a call is timed with.
#ifndef KVKEEP_BENCH_CLOCK_HPP
#define KVKEEP_BENCH_CLOCK_HPP

#include <ctime>

#include <cstddef>

namespace kvkeep_bench {

/// Processor time of this thread, which other jobs on the core do not stretch; where several threads work, the time that
/// passes.
[[nodiscard]] inline double now(std::size_t threads) noexcept {
  timespec at{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &at);
  return static_cast<double>(at.tv_sec) + 1e-9 * static_cast<double>(at.tv_nsec);
}

/// The seconds that a call takes.
template <class Call>
[[nodiscard]] double timed(std::size_t threads, const Call& call) {
  const double before = now(threads);
  call();
  return now(threads) - before;
}

}  // namespace kvkeep_bench

#endif
