#ifndef KVKEEP_EVAL_RUN_WATCH_HPP
#define KVKEEP_EVAL_RUN_WATCH_HPP

#include "compare.hpp"

#include <cstddef>
#include <functional>
#include <string>

namespace kvkeep_eval {

// How one policy of several gets on: the hooks of them all are told, and asked whether to stop. What it gives out refers to it.
class run_watch {
 public:
  // `interrupted` is set when the hooks want to stop; `at` is where the policy begins.
  run_watch(const compare_hooks& hooks, const progress& at, bool& interrupted)
      : hooks_(hooks), at_(at), interrupted_(interrupted) {}
  run_watch(const run_watch&) = delete;
  run_watch(run_watch&&) = delete;
  run_watch& operator=(const run_watch&) = delete;
  run_watch& operator=(run_watch&&) = delete;
  ~run_watch() = default;

  // What is to be told how much is done.
  [[nodiscard]] std::function<void(std::size_t)> report();
  // What knows whether to finish now.
  [[nodiscard]] std::function<bool()> stop();
  // Does the policy's work; why it failed, empty if it did not.
  [[nodiscard]] std::string attempt(const std::function<void()>& work) const;

 private:
  const compare_hooks& hooks_;
  progress at_;
  bool& interrupted_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RUN_WATCH_HPP
