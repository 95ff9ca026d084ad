#ifndef KVKEEP_EVAL_MACHINE_HPP
#define KVKEEP_EVAL_MACHINE_HPP

#include <cstddef>
#include <string>

namespace kvkeep_eval {

// What the figures were measured on: the processor's name, the threads in use, the compiler and its instruction set.
[[nodiscard]] std::string describe_machine(std::size_t threads);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_MACHINE_HPP
