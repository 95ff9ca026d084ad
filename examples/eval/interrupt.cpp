#include "interrupt.hpp"

#include <csignal>
#include <initializer_list>

namespace kvkeep_eval {

namespace {

volatile std::sig_atomic_t caught = 0;

extern "C" void note_interrupt(int signal) { caught = signal; }

}  // namespace

void catch_interrupts() {
  for (const int signal : {SIGINT, SIGTERM}) {
    struct sigaction action {};
    action.sa_handler = note_interrupt;
    action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
    static_cast<void>(::sigaction(signal, &action, nullptr));
  }
}

int caught_interrupt() noexcept { return caught; }

}  // namespace kvkeep_eval
