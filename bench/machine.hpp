// machine_line: what figures are worth nothing without: processor, caches, compiler, instruction set.
#ifndef KVKEEP_BENCH_MACHINE_HPP
#define KVKEEP_BENCH_MACHINE_HPP

#include <string>

namespace kvkeep_bench {

[[nodiscard]] std::string machine_line();

}  // namespace kvkeep_bench

#endif
