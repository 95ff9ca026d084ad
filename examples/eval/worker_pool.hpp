#ifndef KVKEEP_EVAL_WORKER_POOL_HPP
#define KVKEEP_EVAL_WORKER_POOL_HPP

#include <kvkeep/core/thread_executor.hpp>

#include <cstddef>
#include <functional>

namespace kvkeep_eval {

// The most threads a pool may have.
inline constexpr std::size_t most_threads = 1024;

// Threads that share out independent tasks: the caller's own and threads - 1 others, which wait in between.
class worker_pool {
 public:
  // A failure unless `threads` is from 1, which starts none, to most_threads.
  explicit worker_pool(std::size_t threads);

  [[nodiscard]] std::size_t threads() const noexcept { return threads_.workers(); }
  // The same threads for kvkeep's attention.
  [[nodiscard]] kvkeep::executor_ref executor() const noexcept { return threads_; }

  // Calls task(i) once for every i below `count`, on any thread and in any order, and returns when all are done. One
  // caller at a time; a task must not throw.
  void run(std::size_t count, const std::function<void(std::size_t)>& task) const;

 private:
  mutable kvkeep::thread_executor threads_;  // a pool does not change when it works
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_WORKER_POOL_HPP
