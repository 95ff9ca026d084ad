#ifndef KVKEEP_EVAL_MAPPED_FILE_HPP
#define KVKEEP_EVAL_MAPPED_FILE_HPP

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace kvkeep_eval {

// A whole file as bytes in memory, read-only and read from disk as they are touched. The file must keep its length
// while it is mapped: touching bytes that another program has cut off ends this one.
class mapped_file {
 public:
  // A failure names the file if it cannot be opened or is a directory.
  explicit mapped_file(const std::filesystem::path& path);
  mapped_file(const mapped_file&) = delete;
  mapped_file(mapped_file&& other) noexcept;
  mapped_file& operator=(const mapped_file&) = delete;
  mapped_file& operator=(mapped_file&& other) noexcept;
  ~mapped_file();

  [[nodiscard]] std::string_view bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  const char* data_ = nullptr;  // [size_]; null if the file is empty
  std::size_t size_ = 0;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_MAPPED_FILE_HPP
