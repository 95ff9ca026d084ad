// background_thread: a background executor over one thread of its own, for programs that have none to give.
//
//   auto io = kvkeep::background_thread::try_make();
//   options.tiers.background = *io;
#ifndef KVKEEP_CORE_BACKGROUND_THREAD_HPP
#define KVKEEP_CORE_BACKGROUND_THREAD_HPP

#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "kvkeep/core/background.hpp"
#include "kvkeep/core/result.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Runs tasks in the order in which they were submitted, by any thread, on one thread that sleeps while there are none. Movable.
/// Its end waits for all of them.
class background_thread {
 public:
  /// Errors: the system gives no more threads (without exceptions that ends the program).
  [[nodiscard]] static result<background_thread> try_make() {
    auto made = std::make_unique<queue>();
#if KVKEEP_EXCEPTIONS
    try {
      made->start();
    } catch (const std::system_error& e) {
      return detail::make_error(errc::capacity, "background_thread",
                                fmt::format("the system started no thread: {}", e.what()));
    }
#else
    made->start();
#endif
    return background_thread(std::move(made));
  }
#if KVKEEP_EXCEPTIONS
  background_thread() : background_thread(detail::unwrap(try_make())) {}
#endif

  void submit(background_task task) {
    {
      const std::lock_guard hold(queue_->lock);
      queue_->waiting.push_back(task);
    }
    queue_->more.notify_one();
  }

 private:
  struct queue {
    std::mutex lock;
    std::condition_variable more;
    static constexpr std::size_t usual = 64;  // tasks that wait at once: for more, memory is taken

    std::vector<background_task> waiting;  // guarded by lock
    std::vector<background_task> taken;    // of the thread
    bool ending = false;                   // guarded by lock
    std::thread thread;

    queue() {
      waiting.reserve(usual);
      taken.reserve(usual);
    }
    queue(const queue&) = delete;
    queue(queue&&) = delete;
    queue& operator=(const queue&) = delete;
    queue& operator=(queue&&) = delete;
    ~queue() {
      {
        const std::lock_guard hold(lock);
        ending = true;
      }
      more.notify_one();
      if (thread.joinable()) thread.join();
    }

    void start() {
      thread = std::thread([this] { serve(); });
    }
    void serve() {
      for (;;) {
        {
          std::unique_lock hold(lock);
          more.wait(hold, [this] { return ending || !waiting.empty(); });
          if (waiting.empty()) return;
          taken.swap(waiting);
        }
        for (const background_task& task : taken) task();
        taken.clear();
      }
    }
  };

  explicit background_thread(std::unique_ptr<queue> made) noexcept : queue_(std::move(made)) {}

  std::unique_ptr<queue> queue_;  // on the heap: its thread refers to it
};

KVKEEP_NAMESPACE_END

#endif
