#ifndef KVKEEP_EVAL_INTERRUPT_HPP
#define KVKEEP_EVAL_INTERRUPT_HPP

namespace kvkeep_eval {

// From now on the first SIGINT (Ctrl-C), SIGTERM or SIGHUP is only noted; the next ends the program as it always did. One
// that the caller has the program ignore stays ignored. SIGPIPE becomes an error of what was written.
void catch_interrupts();

// The signal that was noted, or 0.
[[nodiscard]] int caught_interrupt() noexcept;

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_INTERRUPT_HPP
