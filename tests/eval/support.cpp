#include "support.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <ios>
#include <stdexcept>

#include "failure.hpp"

// The folder of this file; a build whose compiler sees no absolute paths defines it.
#ifndef KVKEEP_EVAL_TESTS_DIR
#define KVKEEP_EVAL_TESTS_DIR std::filesystem::path(__FILE__).parent_path()
#endif

namespace kvkeep_eval_test {

namespace fs = std::filesystem;

namespace {

const fs::path& here() {
  static const fs::path directory(KVKEEP_EVAL_TESTS_DIR);
  return directory;
}

}  // namespace

fs::path bundled_model() { return here() / ".." / ".." / "examples" / "model"; }

fs::path data_file(const char* name) { return here() / "data" / name; }

void write_file(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush();
  if (!file) throw std::runtime_error(path.string() + ": cannot be written");
}

void expect_failure(const std::function<void()>& action, const std::vector<std::string>& named) {
  try {
    action();
  } catch (const kvkeep_eval::failure& error) {
    const std::string what = error.what();
    EXPECT_EQ(what.find('\n'), std::string::npos) << "more than one line: " << what;
    for (const std::string& part : named) {
      EXPECT_NE(what.find(part), std::string::npos) << "'" << part << "' is not in: " << what;
    }
    return;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "an error of another kind: " << error.what();
    return;
  }
  ADD_FAILURE() << "no failure" << (named.empty() ? "" : " that names " + named.back());
}

}  // namespace kvkeep_eval_test
