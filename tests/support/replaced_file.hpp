// An open file of this process that is another one for a while: what a test of real faults of the system needs.
#ifndef KVKEEP_TESTS_SUPPORT_REPLACED_FILE_HPP
#define KVKEEP_TESTS_SUPPORT_REPLACED_FILE_HPP

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace kvkeep_test {

/// Files that this process has open.
inline std::size_t open_files() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

/// Whoever has the file at `path` open reads and writes the one at `other` instead, until this goes.
class replaced_file {
 public:
  replaced_file(const std::string& path, const char* other, int flags) {
    for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;  // the descriptor that lists them
      if (std::filesystem::equivalent(each.path(), path, gone)) file_ = std::stoi(each.path().filename().string());
    }
    before_ = file_ < 0 ? -1 : ::fcntl(file_, F_DUPFD_CLOEXEC, 0);
    const int instead = ::open(other, flags | O_CLOEXEC);
    if (before_ < 0 || instead < 0 || ::dup2(instead, file_) != file_) {
      throw std::runtime_error(path + " is not open, or not to be replaced by " + other);
    }
    ::close(instead);
  }
  replaced_file(const replaced_file&) = delete;
  replaced_file& operator=(const replaced_file&) = delete;
  ~replaced_file() {
    ::dup2(before_, file_);
    ::close(before_);
  }

 private:
  int file_ = -1;
  int before_ = -1;
};

/// No byte can be written to it: ENOSPC.
struct full_disk : replaced_file {
  explicit full_disk(const std::string& path) : replaced_file(path, "/dev/full", O_RDWR) {}
};
/// No byte at a small offset can be read: EIO, as the first pages of a process are mapped nowhere. It cannot be written to either.
struct broken_disk : replaced_file {
  explicit broken_disk(const std::string& path) : replaced_file(path, "/proc/self/mem", O_RDONLY) {}
};

}  // namespace kvkeep_test

#endif
