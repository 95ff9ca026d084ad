// problem: the size of one attention call.
#ifndef KVKEEP_BENCH_PROBLEM_HPP
#define KVKEEP_BENCH_PROBLEM_HPP

#include <cstddef>
#include <string>

#include <fmt/format.h>

namespace kvkeep_bench {

struct problem {
  std::size_t query_heads = 32;
  std::size_t kv_heads = 8;
  std::size_t head_dim = 128;
  std::size_t tokens = 4096;  ///< that the last query reads
  std::size_t queries = 1;
  std::size_t threads = 1;

  [[nodiscard]] std::size_t group() const noexcept { return query_heads / kv_heads; }
  /// As rows are named: Hq32_Hkv8_d128/n4096/q1/t1.
  [[nodiscard]] std::string name() const {
    return fmt::format("Hq{}_Hkv{}_d{}/n{}/q{}/t{}", query_heads, kv_heads, head_dim, tokens, queries, threads);
  }
};

}  // namespace kvkeep_bench

#endif
