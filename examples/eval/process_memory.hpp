#ifndef KVKEEP_EVAL_PROCESS_MEMORY_HPP
#define KVKEEP_EVAL_PROCESS_MEMORY_HPP

#include <cstddef>
#include <optional>

namespace kvkeep_eval {

// This process's resident memory in bytes; 0 where the system does not tell.
[[nodiscard]] std::size_t resident_bytes();

// Measures the largest resident memory from its construction on. What was freed before goes back to the system first.
class peak_memory {
 public:
  peak_memory();

  // Bytes; nothing where the system does not let a process begin again from its present size.
  [[nodiscard]] std::optional<std::size_t> bytes() const;

 private:
  bool reset_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_PROCESS_MEMORY_HPP
