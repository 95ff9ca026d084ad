#ifndef KVKEEP_EVAL_CHECKPOINT_HPP
#define KVKEEP_EVAL_CHECKPOINT_HPP

#include "llama.hpp"
#include "llama2c.hpp"
#include "llama_config.hpp"
#include "tokenizer.hpp"

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

namespace kvkeep_eval {

// A model on disk with its tokenizer, opened and checked, its weights not yet read. A directory is a model in Hugging
// Face's form: config.json, model.safetensors and, unless it is given, tokenizer.model. A file is a llama2.c checkpoint,
// whose tokenizer must be given.
class checkpoint {
 public:
  // `tokenizer_path` is empty if it is not given. A failure names the file and what is wrong with it.
  explicit checkpoint(const std::filesystem::path& model, const std::filesystem::path& tokenizer_path = {});

  [[nodiscard]] const llama_config& config() const noexcept { return config_; }
  [[nodiscard]] const tokenizer& pieces() const noexcept { return pieces_; }
  // The token that every stream begins with.
  [[nodiscard]] token begin_of_stream() const noexcept { return begin_; }
  // Whether a stream ends before this token: BOS, and what the config or else the tokenizer calls EOS.
  [[nodiscard]] bool ends_stream(token piece) const;
  // The directory's or the file's own name, wherever it stands.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  // Reads the weights; the model computes with so many threads, 1 or more.
  [[nodiscard]] llama load(std::size_t threads) const;

 private:
  std::filesystem::path model_;
  std::string name_;
  std::optional<llama2c_file> file_;  // nothing for a directory
  llama_config config_;
  tokenizer pieces_;
  token begin_ = 0;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_CHECKPOINT_HPP
