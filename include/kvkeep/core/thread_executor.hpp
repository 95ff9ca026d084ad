// thread_executor: an executor over threads of its own, for programs that have none to give.
//
//   auto threads = kvkeep::thread_executor(4);               // the caller's and three more
//   step.attend(layer, q, k, v, out, threads);
#ifndef KVKEEP_CORE_THREAD_EXECUTOR_HPP
#define KVKEEP_CORE_THREAD_EXECUTOR_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "kvkeep/core/executor.hpp"
#include "kvkeep/core/result.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Runs tasks on the calling thread, which is worker 0, and on workers() - 1 threads that it started at construction. They
/// sleep while there is nothing to do. Movable. One run() at a time; a run() costs a wake-up of the threads, some
/// microseconds.
class thread_executor {
 public:
  static constexpr std::size_t most_threads = 1024;

  /// Errors: threads outside 1 .. 1024; the system gives no more threads (without exceptions that ends the program).
  [[nodiscard]] static result<thread_executor> try_make(std::size_t threads) {
    if (threads == 0 || threads > most_threads) return detail::bad_argument("threads", threads, "1 .. 1024");
    auto made = std::make_unique<pool>();
#if KVKEEP_EXCEPTIONS
    try {
      made->start(threads - 1);
    } catch (const std::system_error& e) {
      return detail::make_error(
          errc::capacity, "threads",
          fmt::format("the system started only {} of {} threads: {}", made->threads.size() + 1, threads, e.what()));
    }
#else
    made->start(threads - 1);
#endif
    return thread_executor(std::move(made));
  }
#if KVKEEP_EXCEPTIONS
  explicit thread_executor(std::size_t threads) : thread_executor(detail::unwrap(try_make(threads))) {}
#endif

  [[nodiscard]] std::size_t workers() const noexcept { return pool_->threads.size() + 1; }

  void run(std::size_t tasks, task_ref f) {
    if (pool_->threads.empty() || tasks <= 1) return serial_executor::run(tasks, f);
    pool_->run(tasks, f);
  }

 private:
  struct pool {
    std::vector<std::thread> threads;
    std::optional<task_ref> work;
    std::size_t tasks = 0;
    std::atomic<std::size_t> next{0};
    std::atomic<std::uint64_t> round{0};  // counts up when there is work
    std::atomic<std::size_t> busy{0};     // threads that have not finished this round
    std::atomic<bool> ending{false};

    pool() = default;
    pool(const pool&) = delete;
    pool(pool&&) = delete;
    pool& operator=(const pool&) = delete;
    pool& operator=(pool&&) = delete;
    ~pool() {
      ending = true;
      ++round;
      round.notify_all();
      for (std::thread& t : threads) t.join();
    }

    void start(std::size_t count) {
      threads.reserve(count);
      for (std::size_t i = 0; i < count; ++i) {
        threads.emplace_back([this, worker = i + 1] { serve(worker); });
      }
    }
    void serve(std::size_t worker) {
      for (std::uint64_t seen = 0;;) {
        round.wait(seen);
        seen = round.load();
        if (ending) return;
        take(worker);
        if (--busy == 0) busy.notify_one();
      }
    }
    void take(std::size_t worker) {
      for (std::size_t task = next++; task < tasks; task = next++) (*work)(task, worker);
    }
    void run(std::size_t count, task_ref f) {
      work = f;
      tasks = count;
      next = 0;
      busy = threads.size();
      ++round;
      round.notify_all();
      take(0);
      for (std::size_t left = busy.load(); left != 0; left = busy.load()) busy.wait(left);
    }
  };

  explicit thread_executor(std::unique_ptr<pool> made) noexcept : pool_(std::move(made)) {}

  std::unique_ptr<pool> pool_;  // on the heap: its threads refer to it
};

KVKEEP_NAMESPACE_END

#endif
