// rows: everything that can be measured, by name.
#ifndef KVKEEP_BENCH_ROWS_HPP
#define KVKEEP_BENCH_ROWS_HPP

#include <functional>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "measure.hpp"

namespace kvkeep_bench {

struct row {
  std::string name;
  std::function<void(benchmark::State&, const effort&)> run;
};

/// Attention: kvkeep, the rivals and the read limit on all problems.
[[nodiscard]] std::vector<row> attend_rows();
/// What surrounds attention: whole decode steps, and one eviction and insertion.
[[nodiscard]] std::vector<row> step_rows();

}  // namespace kvkeep_bench

#endif
