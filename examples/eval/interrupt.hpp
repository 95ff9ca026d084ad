#ifndef KVKEEP_EVAL_INTERRUPT_HPP
#define KVKEEP_EVAL_INTERRUPT_HPP

namespace kvkeep_eval {

// From now on the first SIGINT (Ctrl-C) or SIGTERM is only noted; the second ends the program as it always did.
void catch_interrupts();

// The signal that was noted, or 0.
[[nodiscard]] int caught_interrupt() noexcept;

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_INTERRUPT_HPP
