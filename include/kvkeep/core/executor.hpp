// executor: who runs the independent parts of a computation. The library starts no thread: the engine brings its own.
//
//   struct my_executor {                                         // over the engine's threads
//     std::size_t workers() const;                               // >= 1
//     void run(std::size_t tasks, kvkeep::task_ref f);           // calls f(task, worker) for every task in [0, tasks)
//   };
//
// run() returns when every task is done. worker is below workers(), and no two tasks run at once with the same one.
#ifndef KVKEEP_CORE_EXECUTOR_HPP
#define KVKEEP_CORE_EXECUTOR_HPP

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A function of a task and a worker, f(task, worker), which does not throw. It refers to the function and does not own it.
class task_ref {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, task_ref> && std::is_invocable_v<F&, std::size_t, std::size_t>)
  task_ref(F& f)
  noexcept
      : function_(const_cast<void*>(static_cast<const void*>(&f))),
        call_(
            [](void* function, std::size_t task, std::size_t worker) { (*static_cast<F*>(function))(task, worker); }) {}

  void operator()(std::size_t task, std::size_t worker) const { call_(function_, task, worker); }

 private:
  void* function_;
  void (*call_)(void*, std::size_t, std::size_t);
};

/// What attend may be given to share its work out.
template <class E>
concept executor = requires(E& e, std::size_t tasks, task_ref f) {
  { e.workers() } -> std::convertible_to<std::size_t>;
  e.run(tasks, f);
};

/// Runs every task on the calling thread, in order.
struct serial_executor {
  [[nodiscard]] static constexpr std::size_t workers() noexcept { return 1; }
  static void run(std::size_t tasks, task_ref f) {
    for (std::size_t task = 0; task < tasks; ++task) f(task, 0);
  }
};

/// Any executor, by reference, which must live as long as this is used; serial by default.
class executor_ref {
 public:
  executor_ref() noexcept = default;
  template <executor E>
    requires(!std::is_same_v<std::remove_cvref_t<E>, executor_ref>)
  executor_ref(E& e)
  noexcept
      : executor_(const_cast<void*>(static_cast<const void*>(&e))),
        workers_([](void* self) -> std::size_t { return static_cast<E*>(self)->workers(); }),
        run_([](void* self, std::size_t tasks, task_ref f) { static_cast<E*>(self)->run(tasks, f); }) {}

  [[nodiscard]] std::size_t workers() const { return executor_ == nullptr ? 1 : workers_(executor_); }
  void run(std::size_t tasks, task_ref f) const {
    if (executor_ == nullptr) {
      serial_executor::run(tasks, f);
    } else {
      run_(executor_, tasks, f);
    }
  }

 private:
  void* executor_ = nullptr;
  std::size_t (*workers_)(void*) = nullptr;
  void (*run_)(void*, std::size_t, task_ref) = nullptr;
};

KVKEEP_NAMESPACE_END

#endif
