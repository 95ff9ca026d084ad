// What the tests of kvkeep-eval share: files, folders and failures.
#ifndef KVKEEP_TESTS_EVAL_SUPPORT_HPP
#define KVKEEP_TESTS_EVAL_SUPPORT_HPP

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "../support/temporary.hpp"

namespace kvkeep_eval_test {

/// The bundled model.
[[nodiscard]] std::filesystem::path bundled_model();
/// A file of the folder data/ beside the tests.
[[nodiscard]] std::filesystem::path data_file(const char* name);

using kvkeep_test::temporary_directory;

/// Replaces a file's contents.
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// Runs `action`, which must throw a kvkeep_eval::failure: one line that contains every string of `named`.
void expect_failure(const std::function<void()>& action, const std::vector<std::string>& named);

}  // namespace kvkeep_eval_test

#endif
