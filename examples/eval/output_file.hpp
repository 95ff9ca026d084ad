#ifndef KVKEEP_EVAL_OUTPUT_FILE_HPP
#define KVKEEP_EVAL_OUTPUT_FILE_HPP

#include <filesystem>
#include <string_view>

namespace kvkeep_eval {

// A file that appears whole or not at all. It is written beside its place, under a name that ends in ".part", and moved
// there by commit(); without, nothing is left of it and what stood there before stays.
class output_file {
 public:
  // A failure if the file cannot be made: a long run is not started for results that have nowhere to go.
  explicit output_file(std::filesystem::path path);
  output_file(const output_file&) = delete;
  output_file(output_file&&) = delete;
  output_file& operator=(const output_file&) = delete;
  output_file& operator=(output_file&&) = delete;
  ~output_file();

  // Where a program that writes the file by itself puts its bytes.
  [[nodiscard]] const std::filesystem::path& part() const noexcept { return part_; }

  void write(std::string_view bytes) const;
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path part_;
  bool committed_ = false;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_OUTPUT_FILE_HPP
