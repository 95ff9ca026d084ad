#ifndef KVKEEP_EVAL_TOKENIZER_HPP
#define KVKEEP_EVAL_TOKENIZER_HPP

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace kvkeep_eval {

// A row of the embedding table; never negative once it comes from a tokenizer.
using token = int;

// A sentencepiece model (tokenizer.model), or a tokenizer.bin of llama2.c; its contents say which.
class tokenizer {
 public:
  explicit tokenizer(const std::filesystem::path& model);
  ~tokenizer();
  tokenizer(tokenizer&&) noexcept;
  tokenizer& operator=(tokenizer&&) noexcept;

  [[nodiscard]] std::size_t vocabulary() const;
  [[nodiscard]] std::optional<token> begin_of_stream() const;
  [[nodiscard]] std::optional<token> end_of_stream() const;

  // The pieces of a text, without BOS. A tokenizer whose normaliser would fold newlines into spaces, although it has a
  // piece for them, is given one line at a time, and every line that is not blank ends with the piece: otherwise the
  // model would never see a newline again after training.
  [[nodiscard]] std::vector<token> encode(std::string_view text) const;

  // The same for a text that is to be continued: its last line only ends where it has a newline.
  [[nodiscard]] std::vector<token> encode_prompt(std::string_view text) const;

  // The text of some pieces; BOS and EOS have none. The blank before the first piece is left out.
  [[nodiscard]] std::string decode(std::span<const token> pieces) const;

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::optional<token> line_end_;  // set when lines must be encoded one at a time
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TOKENIZER_HPP
