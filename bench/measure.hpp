// measure: times what takes part in a row, round by round, and reports the row's counters.
#ifndef KVKEEP_BENCH_MEASURE_HPP
#define KVKEEP_BENCH_MEASURE_HPP

#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

#include "contender.hpp"

namespace kvkeep_bench {

/// Another library on the same problem.
struct baseline {
  contender* who = nullptr;
  std::string_view name{};  ///< as in ratio_to_eigen
};

/// Who takes part in a row. Pointers may be the same: what is the read limit is compared with itself.
struct line_up {
  contender* subject = nullptr;       ///< whose row it is
  contender* partner = nullptr;       ///< what the subject is compared with pair by pair; null: nothing
  std::string_view partner_name{};    ///< as in ratio_to_dense
  contender* read_limit = nullptr;    ///< reads as many bytes
  std::vector<baseline> baselines{};  ///< slower, so run in fewer rounds
  double bytes = 0.0;                 ///< of keys and values that must be read once
};

/// How long to measure.
struct effort {
  double seconds = 3.0;  ///< of calls in a row, about
};

/// Measures a row: first verifies all who take part, and makes the row an error where one is wrong.
void measure(benchmark::State& state, const line_up& who, const effort& how_long);

/// Makes the row an error, and the program's exit code.
void fail(benchmark::State& state, const std::string& why);
[[nodiscard]] bool any_failed();

}  // namespace kvkeep_bench

#endif
