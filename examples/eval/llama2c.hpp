#ifndef KVKEEP_EVAL_LLAMA2C_HPP
#define KVKEEP_EVAL_LLAMA2C_HPP

#include "llama_config.hpp"
#include "llama_weights.hpp"
#include "mapped_file.hpp"

#include <cstddef>
#include <filesystem>

namespace kvkeep_eval {

// A checkpoint of llama2.c (github.com/karpathy/llama2.c), little endian: its "legacy" form or version 1, both f32.
class llama2c_file {
 public:
  // Maps the file and checks its header and its length; a failure says what is wrong with which field.
  explicit llama2c_file(const std::filesystem::path& path);

  // Its shape. What the format does not say is fixed: interleaved RoPE of base 10000, norm epsilon 1e-5 and BOS id 1.
  [[nodiscard]] const llama_config& config() const noexcept { return config_; }

  [[nodiscard]] llama_weights read_weights() const;

 private:
  enum class form { legacy, version_1 };

  void read_header();
  // The number of floats after the header; the header's bounds keep it within 64 bits.
  [[nodiscard]] std::size_t floats() const noexcept;
  // The numbers of the two rotary tables, which only repeat the config.
  [[nodiscard]] std::size_t rotary_floats() const noexcept;

  mapped_file file_;
  form form_ = form::legacy;
  std::size_t start_ = 0;  // bytes of the header
  llama_config config_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_LLAMA2C_HPP
