// contender: something that is timed.
#ifndef KVKEEP_BENCH_CONTENDER_HPP
#define KVKEEP_BENCH_CONTENDER_HPP

#include <string>

namespace kvkeep_bench {

class contender {
 public:
  contender() = default;
  contender(const contender&) = delete;
  contender(contender&&) = delete;
  contender& operator=(const contender&) = delete;
  contender& operator=(contender&&) = delete;
  virtual ~contender() = default;

  /// One call on cold memory; the seconds it took.
  virtual double run() = 0;
  /// Compares the output of a call with attention in double precision. Empty, or what is wrong.
  [[nodiscard]] virtual std::string verify() { return {}; }
};

}  // namespace kvkeep_bench

#endif
