// huge_buffer: floats in memory for which large pages are asked.
#ifndef KVKEEP_BENCH_HUGE_BUFFER_HPP
#define KVKEEP_BENCH_HUGE_BUFFER_HPP

#include <cstddef>
#include <memory>
#include <span>

namespace kvkeep_bench {

class huge_buffer {
 public:
  huge_buffer() = default;
  /// Zeros, aligned to 2 MiB. Throws std::bad_alloc.
  explicit huge_buffer(std::size_t floats);

  [[nodiscard]] std::span<float> floats() const noexcept { return {memory_.get(), count_}; }

 private:
  struct release {
    void operator()(float* memory) const noexcept;
  };
  std::unique_ptr<float, release> memory_;
  std::size_t count_ = 0;
};

}  // namespace kvkeep_bench

#endif
