#ifndef KVKEEP_EVAL_SAFETENSORS_HPP
#define KVKEEP_EVAL_SAFETENSORS_HPP

#include "mapped_file.hpp"
#include "matrix.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace kvkeep_eval {

// A model.safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes (little endian).
// The file is mapped into memory; its header is checked at construction, a tensor when it is asked for.
class safetensors {
 public:
  explicit safetensors(const std::filesystem::path& path);

  // The named tensor as f32, whichever of F32, F16 and BF16 the file holds; a vector [n] is the matrix [1, n].
  // A failure names the tensor if it is missing or has another shape or type.
  [[nodiscard]] matrix read(const std::string& name, const std::vector<std::size_t>& shape);

  // The names of the tensors that were never read, in alphabetical order.
  [[nodiscard]] std::vector<std::string> unread() const;

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }

 private:
  struct entry {
    std::string dtype;
    std::vector<std::size_t> shape;
    std::uint64_t first = 0;  // bytes from the start of the file
    std::uint64_t last = 0;
    bool was_read = false;
  };

  // A failure if two tensors share bytes, which the format forbids.
  void refuse_overlaps() const;

  mapped_file file_;
  std::map<std::string, entry> entries_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_SAFETENSORS_HPP
