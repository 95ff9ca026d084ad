#include "progress_line.hpp"

#include "interrupt.hpp"

#include <fmt/format.h>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace kvkeep_eval {

namespace {

constexpr std::chrono::milliseconds between_updates{200};
constexpr std::chrono::seconds speed_window{10};

// Columns of the terminal behind stderr.
std::size_t terminal_columns() {
  constexpr std::size_t usual = 80;
  ::winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : usual;
}

}  // namespace

std::string progress_text(const progress& at, std::string_view left, std::size_t columns) {
  std::string out =
      fmt::format("[{}/{}] {} of {} {}{}: {}", at.policy, at.policies, at.done, at.total, at.unit, left, at.spec);
  out.resize(std::min(out.size(), std::max<std::size_t>(columns, 2) - 1));  // the spec's end is what can be missed
  return out;
}

progress_line::progress_line() : shown_(::isatty(STDERR_FILENO) != 0) {}

compare_hooks progress_line::hooks() {
  compare_hooks out;
  if (shown_) {
    out.report = [this](const progress& at) { show(at); };
  }
  out.stop = [] { return caught_interrupt() != 0; };
  return out;
}

progress_line::~progress_line() {
  if (shown_) {
    std::fputs("\r\x1b[K", stderr);
  }
}

void progress_line::show(const progress& at) {
  const clock::time_point now = clock::now();
  if (at.policy != policy_) {
    policy_ = at.policy;
    since_ = now;
    since_done_ = at.done;
  } else if (now - updated_ < between_updates) {
    return;
  }
  updated_ = now;
  std::string left;
  const double seconds = std::chrono::duration<double>(now - since_).count();
  if (at.done > since_done_ && seconds > 0) {
    const double speed = static_cast<double>(at.done - since_done_) / seconds;
    left = fmt::format(", {} left at this speed", duration_text(static_cast<double>(at.total - at.done) / speed));
  }
  if (now - since_ > speed_window) {  // dense slows down as it goes: an old speed says little
    since_ = now;
    since_done_ = at.done;
  }
  fmt::print(stderr, "\r\x1b[K{}", progress_text(at, left, terminal_columns()));
  std::fflush(stderr);
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::size_t>(seconds + 0.5);
  if (whole < 60) {
    return fmt::format("{} s", whole);
  }
  if (whole < 3600) {
    return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  }
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace kvkeep_eval
