// hnsw_rows: the rows approximate_keys/... of bench_select, where hnswlib is found.
#ifndef KVKEEP_BENCH_HNSW_ROWS_HPP
#define KVKEEP_BENCH_HNSW_ROWS_HPP

namespace kvkeep_bench {

/// Registers them.
void add_hnsw_rows();

}  // namespace kvkeep_bench

#endif
