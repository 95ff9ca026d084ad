// measure: times what takes part in a row, round by round, and reports the row's counters.
#ifndef KVKEEP_BENCH_MEASURE_HPP
#define KVKEEP_BENCH_MEASURE_HPP

#include <functional>
#include <string>
#include <string_view>

#include <benchmark/benchmark.h>

#include "contender.hpp"

namespace kvkeep_bench {

/// Who takes part in a row. Pointers may be the same: what is the read limit is compared with itself.
struct line_up {
  contender* subject = nullptr;     ///< whose row it is
  contender* partner = nullptr;     ///< what the subject is compared with pair by pair; null: nothing
  std::string_view partner_name{};  ///< as in ratio_to_dense
  contender* read_limit = nullptr;  ///< reads as many bytes
  contender* eigen = nullptr;       ///< plain Eigen on the same problem
  double bytes = 0.0;               ///< of keys and values that must be read once
};

/// How long to measure.
struct effort {
  double seconds = 3.0;  ///< of calls in a row, about
};

/// Measures a row: verifies the subject first and makes the row an error where it is wrong.
void measure(benchmark::State& state, const line_up& who, const effort& how_long);

/// Makes the row an error, and the program's exit code.
void fail(benchmark::State& state, const std::string& why);
[[nodiscard]] bool any_failed();

}  // namespace kvkeep_bench

#endif
