// read_limit: how fast this machine reads memory when nothing is done with what is read.
#ifndef KVKEEP_BENCH_READ_LIMIT_HPP
#define KVKEEP_BENCH_READ_LIMIT_HPP

#include <cstddef>
#include <memory>
#include <string_view>

#include "contender.hpp"

namespace kvkeep_bench {

/// Reads `bytes` cold bytes by the fastest of several access patterns, found by measurement when it is made. With two
/// threads, each reads one half.
class read_limit final : public contender {
 public:
  read_limit(std::size_t bytes, std::size_t threads);
  ~read_limit() override;

  double run() override;
  /// The pattern that was chosen.
  [[nodiscard]] std::string_view pattern() const noexcept;

 private:
  class second_thread;

  double read(std::size_t pattern, std::size_t bytes);

  std::size_t bytes_;
  std::size_t threads_;
  std::size_t pattern_ = 0;
  std::unique_ptr<second_thread> helper_;  // where there are two threads
};

}  // namespace kvkeep_bench

#endif
