#include "mapped_file.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace kvkeep_eval {

namespace {

failure system_failure(const std::string& path, int error) {
  return failure(fmt::format("{}: {}", path, std::generic_category().message(error)));
}

// An open file descriptor, closed at the end of its scope.
class descriptor {
 public:
  explicit descriptor(const std::string& path) : number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (number_ < 0) {
      throw system_failure(path, errno);
    }
  }
  descriptor(const descriptor&) = delete;
  descriptor(descriptor&&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  descriptor& operator=(descriptor&&) = delete;
  ~descriptor() { ::close(number_); }

  [[nodiscard]] int number() const noexcept { return number_; }

 private:
  int number_;
};

}  // namespace

mapped_file::mapped_file(const std::filesystem::path& path) : path_(path.string()) {
  const descriptor file(path_);
  struct stat status {};
  if (::fstat(file.number(), &status) != 0) {
    throw system_failure(path_, errno);
  }
  if (!S_ISREG(status.st_mode)) {
    throw failure(fmt::format("{}: is {}, not a file", path_,
                              S_ISDIR(status.st_mode) ? "a directory" : "a device, pipe or socket"));
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) {
    return;  // there are no mappings of 0 bytes
  }
  void* const data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (data == MAP_FAILED) {
    throw system_failure(path_, errno);
  }
  data_ = static_cast<const char*>(data);
}

mapped_file::mapped_file(mapped_file&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

mapped_file::~mapped_file() {
  if (data_ != nullptr) {
    ::munmap(const_cast<char*>(data_), size_);
  }
}

}  // namespace kvkeep_eval
