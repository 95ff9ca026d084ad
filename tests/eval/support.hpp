// What the tests of kvkeep-eval share: files, folders and failures.
#ifndef KVKEEP_TESTS_EVAL_SUPPORT_HPP
#define KVKEEP_TESTS_EVAL_SUPPORT_HPP

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kvkeep_eval_test {

/// The bundled model.
[[nodiscard]] std::filesystem::path bundled_model();
/// A file of the folder data/ beside the tests.
[[nodiscard]] std::filesystem::path data_file(const char* name);

/// A new, empty directory, removed at the end of its scope with all that is in it.
class temporary_directory {
 public:
  temporary_directory();
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory(temporary_directory&&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  temporary_directory& operator=(temporary_directory&&) = delete;
  ~temporary_directory();

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

/// Replaces a file's contents.
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// Runs `action`, which must throw a kvkeep_eval::failure: one line that contains every string of `named`.
void expect_failure(const std::function<void()>& action, const std::vector<std::string>& named);

}  // namespace kvkeep_eval_test

#endif
