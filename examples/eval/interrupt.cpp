#include "interrupt.hpp"

#include <csignal>
#include <initializer_list>

namespace kvkeep_eval {

namespace {

volatile std::sig_atomic_t caught = 0;

extern "C" void note_interrupt(int signal) {
  caught = signal;
  for (const int each : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now {};
    if (::sigaction(each, nullptr, &now) == 0 && now.sa_handler == note_interrupt) {
      static_cast<void>(::signal(each, SIG_DFL));
    }
  }
}

}  // namespace

void catch_interrupts() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now {};
    if (::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN) {
      continue;
    }
    struct sigaction action {};
    action.sa_handler = note_interrupt;
    action.sa_flags = SA_RESTART;
    static_cast<void>(::sigaction(signal, &action, nullptr));
  }
  static_cast<void>(::signal(SIGPIPE, SIG_IGN));
}

int caught_interrupt() noexcept { return caught; }

}  // namespace kvkeep_eval
