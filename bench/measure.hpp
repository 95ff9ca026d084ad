// measure: times what takes part in a row, round by round, and reports the row's counters.
#ifndef KVKEEP_BENCH_MEASURE_HPP
#define KVKEEP_BENCH_MEASURE_HPP

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

#include "contender.hpp"

namespace kvkeep_bench {

/// Another library on the same problem.
struct baseline {
  std::shared_ptr<contender> who;
  std::string_view name{};  ///< as in ratio_to_eigen
};

/// Who takes part in a row. Pointers may be the same: what is the read limit is compared with itself.
struct line_up {
  std::shared_ptr<contender> subject{};  ///< whose row it is
  std::shared_ptr<contender> partner{};  ///< what the subject is compared with pair by pair; null: nothing
  std::string partner_counter{};         ///< as ratio_to_dense, the subject's time over the partner's
  bool faster = false;                   ///< the counter is the partner's time over the subject's, as speedup_over_t1
  std::shared_ptr<contender> read_limit{};  ///< reads as many bytes
  std::vector<baseline> baselines{};        ///< slower, so run in fewer rounds
  double bytes = 0.0;                       ///< of keys and values that must be read once
};

/// Makes who takes part. Called for every placement: what is to lie elsewhere in memory is made anew, others are kept.
using line_up_maker = std::function<line_up(std::size_t placement)>;

/// How long to measure.
struct effort {
  double seconds = 3.0;  ///< of calls in a row, about; 0: few rounds of calls that are not cold, to see that it works
  std::size_t placements = 6;  ///< at most
};

/// Measures a row: first verifies all who take part, and makes the row an error where one is wrong. `placements`: whether
/// to measure in several placements where there is time.
void measure(benchmark::State& state, const line_up_maker& make, bool placements, const effort& how_long);

/// Makes the row an error, and the program's exit code.
void fail(benchmark::State& state, const std::string& why);
[[nodiscard]] bool any_failed();

}  // namespace kvkeep_bench

#endif
