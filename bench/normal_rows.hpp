// normal_rows: random numbers for keys, values and queries.
//
// Normally distributed, so that scores are spread as a model's are and no denormal slows a product down.
#ifndef KVKEEP_BENCH_NORMAL_ROWS_HPP
#define KVKEEP_BENCH_NORMAL_ROWS_HPP

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvkeep_bench {

/// A row of up to 4096 numbers, mean 0 and deviation 1, that depends on `number` alone. From a table: rows overlap.
[[nodiscard]] std::span<const float> normal_row(std::uint64_t number, std::size_t length);

/// Fills `out` with such rows, times `factor`.
void fill_normal(std::span<float> out, std::uint64_t number, float factor = 1.0F);

}  // namespace kvkeep_bench

#endif
