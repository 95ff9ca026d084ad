#include "process_memory.hpp"

#include <fstream>
#include <string>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace kvkeep_eval {

namespace {

// A line "<name>: <number> kB" of /proc/self/status, in bytes.
std::optional<std::size_t> status_bytes(const char* name) {
  std::ifstream status("/proc/self/status");
  const std::string wanted = std::string(name) + ":";
  for (std::string word; status >> word;) {
    if (word == wanted) {
      std::size_t kilobytes = 0;
      return status >> kilobytes ? std::optional(kilobytes * 1024) : std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace

std::size_t resident_bytes() { return status_bytes("VmRSS").value_or(0); }

peak_memory::peak_memory() : reset_(false) {
#if defined(__GLIBC__)
  static_cast<void>(::malloc_trim(0));
#endif
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;  // Linux: the peak becomes the present size (man proc)
  reset_ = clear.good();
}

std::optional<std::size_t> peak_memory::bytes() const { return reset_ ? status_bytes("VmHWM") : std::nullopt; }

}  // namespace kvkeep_eval
