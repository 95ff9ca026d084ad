#include "output_file.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <ios>
#include <system_error>
#include <utility>

namespace kvkeep_eval {

output_file::output_file(std::filesystem::path path) : path_(std::move(path)), part_(path_) {
  part_ += ".part";
  std::error_code error;
  const auto kind = std::filesystem::status(path_, error).type();
  if (kind != std::filesystem::file_type::not_found && kind != std::filesystem::file_type::regular) {
    throw failure(fmt::format("{}: is no regular file, and cannot be replaced by one", path_.string()));
  }
  errno = 0;
  if (!std::ofstream(part_, std::ios::binary | std::ios::trunc)) {
    throw failure(fmt::format("{}: cannot be written ({})", path_.string(), std::generic_category().message(errno)));
  }
}

output_file::~output_file() {
  if (!committed_) {
    std::error_code ignored;
    std::filesystem::remove(part_, ignored);
  }
}

void output_file::write(std::string_view bytes) const {
  std::ofstream file(part_, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    throw failure(fmt::format("{}: cannot be written", path_.string()));
  }
}

void output_file::commit() {
  std::error_code error;
  std::filesystem::rename(part_, path_, error);
  if (error) {
    throw failure(fmt::format("{}: cannot be written ({})", path_.string(), error.message()));
  }
  committed_ = true;
}

}  // namespace kvkeep_eval
