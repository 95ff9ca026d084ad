#include "output_file.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace kvkeep_eval {

namespace {

namespace fs = std::filesystem;

failure cannot_write(const fs::path& path, int error) {
  return failure(fmt::format("{}: cannot be written ({})", path.string(), std::generic_category().message(error)));
}

// What `path` means once all links are followed, also one that leads nowhere yet.
fs::path follow(fs::path path) {
  constexpr int most_links = 40;  // as many as Linux follows
  std::error_code error;
  for (int i = 0; i < most_links && fs::is_symlink(path, error); ++i) {
    path = path.parent_path() / fs::read_symlink(path, error);  // an absolute target replaces all
  }
  return path;
}

// A new file beside `path`, removed at the end of its scope unless it was moved away.
class neighbour {
 public:
  explicit neighbour(const fs::path& path) : name_(path) {
    constexpr int most_tries = 100;
    constexpr ::mode_t mode = 0666;  // less the umask, as any other file
    for (int i = 0; fd_ < 0 && i < most_tries; ++i) {
      name_ = path;
      name_ += fmt::format(".{}-{}", ::getpid(), i);
      fd_ = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
      if (fd_ < 0 && errno != EEXIST) {
        break;
      }
    }
    if (fd_ < 0) {
      throw cannot_write(path, errno);
    }
  }
  neighbour(const neighbour&) = delete;
  neighbour(neighbour&&) = delete;
  neighbour& operator=(const neighbour&) = delete;
  neighbour& operator=(neighbour&&) = delete;
  ~neighbour() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
    if (!moved_) {
      ::unlink(name_.c_str());
    }
  }

  // 0, or the error.
  [[nodiscard]] int write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ::ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno != EINTR) {
        return errno;
      }
      bytes.remove_prefix(written < 0 ? 0 : static_cast<std::size_t>(written));
    }
    return ::close(std::exchange(fd_, -1)) == 0 ? 0 : errno;
  }
  [[nodiscard]] int move_to(const fs::path& path) {
    moved_ = ::rename(name_.c_str(), path.c_str()) == 0;
    return moved_ ? 0 : errno;
  }

 private:
  fs::path name_;
  int fd_ = -1;
  bool moved_ = false;
};

}  // namespace

output_file::output_file(const fs::path& path) : path_(follow(path)) {
  std::error_code error;
  const auto kind = fs::status(path_, error).type();
  if (kind != fs::file_type::not_found && kind != fs::file_type::regular) {
    throw failure(fmt::format("{}: is no regular file, and cannot be replaced by one", path.string()));
  }
  const neighbour trial(path_);
}

void output_file::replace(std::string_view bytes) const {
  neighbour file(path_);
  int error = file.write(bytes);
  error = error != 0 ? error : file.move_to(path_);
  if (error != 0) {
    throw cannot_write(path_, error);
  }
}

}  // namespace kvkeep_eval
