#ifndef KVKEEP_EVAL_OUTPUT_FILE_HPP
#define KVKEEP_EVAL_OUTPUT_FILE_HPP

#include <filesystem>
#include <string_view>

namespace kvkeep_eval {

// A file that appears whole or not at all, and keeps what stood there before until then.
class output_file {
 public:
  // Follows links. A failure if the file could not be written: a long run is not begun for results that have nowhere to go.
  explicit output_file(const std::filesystem::path& path);

  // The file itself, behind any links.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  // Puts `bytes` in the place of what is there: under another name beside it, then moved.
  void replace(std::string_view bytes) const;

 private:
  std::filesystem::path path_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_OUTPUT_FILE_HPP
