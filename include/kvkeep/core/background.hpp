// background: who does work that nobody waits for yet. The library starts no thread: the engine brings its own.
//
//   struct my_io {                                            // over the engine's threads
//     void submit(kvkeep::background_task task);              // calls task() once, soon, on some thread
//   };
//
// Tasks may run in any order and several at once. Every task that was submitted is run before its executor ends, and none needs the
// thread that submitted it, which may wait for it. A submit that throws has not taken its task.
#ifndef KVKEEP_CORE_BACKGROUND_HPP
#define KVKEEP_CORE_BACKGROUND_HPP

#include <type_traits>

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A call of a function, call(context), which does not throw.
struct background_task {
  void (*call)(void*) noexcept = nullptr;
  void* context = nullptr;

  void operator()() const noexcept { call(context); }
};

/// What a cache may be given to read and write beside the step.
template <class E>
concept background_executor = requires(E& e, background_task task) {
  e.submit(task);
};

/// A background executor by reference, which must live as long as this is used; none by default.
class background_ref {
 public:
  background_ref() noexcept = default;
  template <background_executor E>
    requires(!std::is_same_v<std::remove_cvref_t<E>, background_ref>)
  background_ref(E& e)
  noexcept
      : executor_(const_cast<void*>(static_cast<const void*>(&e))),
        submit_([](void* self, background_task task) { static_cast<E*>(self)->submit(task); }) {}

  [[nodiscard]] explicit operator bool() const noexcept { return executor_ != nullptr; }
  void submit(background_task task) const { submit_(executor_, task); }

 private:
  void* executor_ = nullptr;
  void (*submit_)(void*, background_task) = nullptr;
};

KVKEEP_NAMESPACE_END

#endif
