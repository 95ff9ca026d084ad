// spill_file: a private file of records that are written and read by offset.
//
// It is read by pread and not mapped: a mapped file that somebody shortens would kill the process. It is made new, so that no
// other file is ever overwritten and no two caches share one; it is removed by whoever made it.
#ifndef KVKEEP_STORAGE_SPILL_FILE_HPP
#define KVKEEP_STORAGE_SPILL_FILE_HPP

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "kvkeep/core/result.hpp"

#if __has_include(<unistd.h>) && __has_include(<fcntl.h>)
#define KVKEEP_HAS_SPILL_FILE 1
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define KVKEEP_HAS_SPILL_FILE 0
#endif

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// A hash of bytes. Every change within 8 aligned bytes changes it; any other does but for one chance in 2^64. It is no protection against somebody who wants to deceive.
[[nodiscard]] inline std::uint64_t checksum(std::span<const std::byte> bytes) noexcept {
  constexpr std::uint64_t odd = 0x9E3779B97F4A7C15U;
  std::array<std::uint64_t, 4> lanes{1, 2, 3, 4};  // independent, so that multiplications overlap
  for (std::size_t i = 0; i < bytes.size(); i += 32) {
    std::array<std::uint64_t, 4> words{};
    std::memcpy(words.data(), bytes.data() + i, (std::min)(sizeof words, bytes.size() - i));
    for (std::size_t j = 0; j < 4; ++j) {
      lanes[j] = (lanes[j] ^ words[j]) * odd;
      lanes[j] ^= lanes[j] >> 29U;
    }
  }
  std::uint64_t all = bytes.size();
  for (const std::uint64_t lane : lanes) {
    all = (all ^ lane) * odd;
    all ^= all >> 32U;
  }
  return all;
}

/// Movable. Reads and writes may come from several threads at once, for different bytes.
class spill_file {
 public:
  /// No file.
  spill_file() noexcept = default;
  spill_file(spill_file&& other) noexcept : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)) {}
  spill_file& operator=(spill_file&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(file_, other.file_);
    return *this;
  }
  spill_file(const spill_file&) = delete;
  spill_file& operator=(const spill_file&) = delete;

#if KVKEEP_HAS_SPILL_FILE
  ~spill_file() {
    if (file_ < 0) return;
    if (is_there()) static_cast<void>(::unlink(path_.c_str()));
    static_cast<void>(::close(file_));
  }

  /// A new, empty file that only its owner may read and write. Errors: there is something at the path, or no file can be made.
  [[nodiscard]] static result<spill_file> try_make(const std::string& path) {
    spill_file made;
    std::error_code unknown;  // where the directory is not known, the path stays relative
    made.path_ = std::filesystem::absolute(path, unknown).string();
    if (unknown) made.path_ = path;
    const int file = ::open(made.path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (file < 0) {
      const int why = errno;
      return error{
          errc::io, "path",
          fmt::format("kvkeep: path = '{}': {}; allowed: a path in a directory that can be written to, at which "
                      "there is nothing yet: every cache makes a file of its own",
                      path, text_of(why))};
    }
    made.file_ = file;
    return made;
  }

  static_assert(sizeof(off_t) >= 8, "kvkeep: files of memory units need offsets of 64 bits: -D_FILE_OFFSET_BITS=64");
  /// Writes all bytes at an offset. Errors: the system writes fewer; then those before may have been written.
  [[nodiscard]] result<void> write(std::uint64_t offset, std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t done = ::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return trouble("writing", offset, bytes.size(), done < 0 ? text_of(errno) : "nothing was written");
      offset += static_cast<std::uint64_t>(done);
      bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
    return {};
  }
  /// Reads all bytes at an offset. Errors: the system reads fewer.
  [[nodiscard]] result<void> read(std::uint64_t offset, std::span<std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t done = ::pread(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0)
        return trouble("reading", offset, bytes.size(), done < 0 ? text_of(errno) : "the file ends before");
      offset += static_cast<std::uint64_t>(done);
      bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
    return {};
  }
  /// Gives the disk back what the file holds.
  [[nodiscard]] result<void> empty() const {
    while (::ftruncate(file_, 0) != 0) {
      if (errno != EINTR) return trouble("emptying", 0, 0, text_of(errno));
    }
    return {};
  }
#else
  ~spill_file() = default;
  [[nodiscard]] static result<spill_file> try_make(const std::string&) {
    return make_error(errc::unsupported, "path",
                      "path: this system has no files that are read by offset (POSIX pread)");
  }
  [[nodiscard]] result<void> write(std::uint64_t, std::span<const std::byte>) const { return {}; }
  [[nodiscard]] result<void> read(std::uint64_t, std::span<std::byte>) const { return {}; }
  [[nodiscard]] result<void> empty() const { return {}; }
#endif

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
#if KVKEEP_HAS_SPILL_FILE
  [[nodiscard]] static std::string text_of(int code) { return std::generic_category().message(code); }
  [[nodiscard]] KVKEEP_COLD error trouble(std::string_view doing, std::uint64_t offset, std::size_t bytes,
                                          std::string_view why) const {
    return {errc::io, "path", fmt::format("kvkeep: {} {} bytes at {} of '{}': {}", doing, bytes, offset, path_, why)};
  }
  /// Whether what is at the path is this file, and not one that somebody put there.
  [[nodiscard]] bool is_there() const noexcept {
    struct stat mine {};
    struct stat named {};
    return ::fstat(file_, &mine) == 0 && ::lstat(path_.c_str(), &named) == 0 && mine.st_dev == named.st_dev &&
           mine.st_ino == named.st_ino;
  }
#endif

  std::string path_;
  int file_ = -1;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
