#ifndef KVKEEP_EVAL_PROGRESS_LINE_HPP
#define KVKEEP_EVAL_PROGRESS_LINE_HPP

#include "compare.hpp"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace kvkeep_eval {

// A line on a terminal's stderr that overwrites itself and is gone at the end of its scope; nothing elsewhere.
class progress_line {
 public:
  progress_line();
  progress_line(const progress_line&) = delete;
  progress_line(progress_line&&) = delete;
  progress_line& operator=(const progress_line&) = delete;
  progress_line& operator=(progress_line&&) = delete;
  ~progress_line();

  // Shows how far the comparison is, a few times a second at most.
  void show(const progress& at);
  // Hooks that show how far a run is on this line, which they refer to, and stop the run at an interrupt.
  [[nodiscard]] compare_hooks hooks();

 private:
  using clock = std::chrono::steady_clock;

  bool shown_;
  std::size_t policy_ = 0;      // the one being shown
  clock::time_point updated_;   // when the line was last written
  clock::time_point since_;     // the speed is taken from here ...
  std::size_t since_done_ = 0;  // ... where so many tokens were done
};

// What the line says, cut to one less than the columns of the terminal: a full line would wrap.
[[nodiscard]] std::string progress_text(const progress& at, std::string_view left, std::size_t columns);

// Seconds as people say them: "7 s", "3 min 20 s", "2 h 05 min".
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_PROGRESS_LINE_HPP
