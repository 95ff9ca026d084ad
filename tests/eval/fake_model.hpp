// Models as small as can be, whole or broken, for the tests of kvkeep-eval.
#ifndef KVKEEP_TESTS_EVAL_FAKE_MODEL_HPP
#define KVKEEP_TESTS_EVAL_FAKE_MODEL_HPP

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "compare.hpp"
#include "support.hpp"

namespace kvkeep_eval_test {

/// The bytes of a safetensors file with this header, well-formed or not.
[[nodiscard]] std::string safetensors_bytes(std::string_view header, std::string_view data);

/// A safetensors file in the making. Every field of an entry is JSON text, so that it can be made wrong.
class weights {
 public:
  struct entry {
    std::string dtype;
    std::string shape;
    std::string offsets;
  };

  /// Appends a tensor and its bytes.
  void add(const std::string& name, std::string_view dtype, const std::vector<std::size_t>& shape,
           std::string_view bytes);
  /// The entry of a tensor, which must exist.
  [[nodiscard]] entry& at(const std::string& name) { return entries_.at(name); }
  void erase(const std::string& name) { entries_.erase(name); }

  [[nodiscard]] std::string header() const;
  [[nodiscard]] const std::string& data() const noexcept { return data_; }
  [[nodiscard]] std::string bytes() const { return safetensors_bytes(header(), data_); }

 private:
  std::map<std::string, entry> entries_;
  std::string data_;
};

/// A model directory that compare() accepts until a test breaks it, and a text beside it: one layer, 2 query heads, 1 kv
/// head, head_dim 2, hidden 4, all weights 0 in bf16; the tokenizer is the bundled model's, with 2048 pieces.
class fake_model {
 public:
  fake_model();

  std::map<std::string, std::string> config;  ///< name to JSON text
  weights tensors;

  [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_.path(); }
  /// A file of the model: config.json, model.safetensors or tokenizer.model.
  [[nodiscard]] std::filesystem::path file(const char* name) const { return directory() / name; }
  void write_config() const;
  void write_weights() const { write_file(file("model.safetensors"), tensors.bytes()); }

  /// What compare() is asked: 5 tokens of the text under `dense`.
  kvkeep_eval::compare_options options;

  [[nodiscard]] kvkeep_eval::comparison run() const { return kvkeep_eval::compare(options); }
  /// compare() must fail with one line that contains every string of `named`.
  void expect_refused(const std::vector<std::string>& named) const;

 private:
  temporary_directory directory_;
};

}  // namespace kvkeep_eval_test

#endif
