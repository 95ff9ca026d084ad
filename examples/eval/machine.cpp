#include "machine.hpp"

#include <fmt/format.h>
#include <Eigen/Core>

#include <fstream>

namespace kvkeep_eval {

namespace {

// The processor as Linux names it, or "unknown processor".
std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}.{}", __clang_major__, __clang_minor__);
#elif defined(__GNUC__)
  return fmt::format("gcc {}.{}", __GNUC__, __GNUC_MINOR__);
#else
  return "unknown compiler";
#endif
}

}  // namespace

std::string describe_machine(std::size_t threads) {
  return fmt::format("{}, {} thread{}, {}, {}", processor(), threads, threads == 1 ? "" : "s", compiler(),
                     Eigen::SimdInstructionSetsInUse());
}

}  // namespace kvkeep_eval
