// rival: another library's attention over cold rows, timed and verified like ours.
#ifndef KVKEEP_BENCH_RIVAL_HPP
#define KVKEEP_BENCH_RIVAL_HPP

#include <cstddef>
#include <span>
#include <string>

#include "contender.hpp"
#include "huge_buffer.hpp"
#include "problem.hpp"
#include "rival_kernels.hpp"

namespace kvkeep_bench {

/// Every query reads all tokens: rivals have no mask.
class rival final : public contender {
 public:
  rival(const problem& size, rival_kernel kernel);

  double run() override;
  [[nodiscard]] std::string verify() override;

 private:
  double attend(std::size_t first, std::size_t heads);

  problem size_;
  rival_kernel kernel_;
  std::size_t heads_at_once_;
  huge_buffer q_;
  huge_buffer scores_;
  huge_buffer out_;
  rival_call last_;
};

}  // namespace kvkeep_bench

#endif
