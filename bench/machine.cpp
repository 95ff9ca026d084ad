#include "machine.hpp"

#include <fstream>
#include <thread>

#include <fmt/format.h>

#include "kvkeep/detail/simd.hpp"

namespace kvkeep_bench {
namespace {

/// The processor as Linux names it, or "unknown processor".
std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

/// The largest cache of the first core as Linux tells it, such as "32768K", or "unknown".
std::string last_level_cache() {
  std::string last = "unknown";
  for (int i = 0; i < 8; ++i) {
    std::ifstream size(fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", i));
    std::string text;
    if (size >> text) last = text;
  }
  return last;
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

std::string machine_line() {
  return fmt::format("{}, {} cores, last-level cache {}, {}, vectors of {} floats", processor(),
                     std::thread::hardware_concurrency(), last_level_cache(), compiler(), kvkeep::detail::vec_width);
}

}  // namespace kvkeep_bench
