// Paths for files of one test, which are gone when it ends.
#ifndef KVKEEP_TESTS_SUPPORT_TEMPORARY_HPP
#define KVKEEP_TESTS_SUPPORT_TEMPORARY_HPP

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace kvkeep_test {

/// A directory of its own, removed with all that is in it.
class temporary_directory {
 public:
  temporary_directory() {
    std::string name = (std::filesystem::temp_directory_path() / "kvkeep-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no directory can be made at " + name);
    path_ = name;
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  /// The path of a name in it.
  [[nodiscard]] std::string at(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace kvkeep_test

#endif
