#ifndef KVKEEP_EVAL_LLAMA2C_TOKENIZER_HPP
#define KVKEEP_EVAL_LLAMA2C_TOKENIZER_HPP

#include <optional>
#include <string>
#include <string_view>

namespace kvkeep_eval {

// The sentencepiece model (a serialised ModelProto) that encodes as llama2.c does with the tokenizer.bin in `bytes`: BPE
// over the pieces and their scores, bytes where no piece fits, and a blank before the text. The one difference is that
// U+2581 in a text counts as a blank, as always in sentencepiece. Nothing if the bytes do not begin as such a file does;
// a failure, which begins with `path`, if they do and are malformed.
[[nodiscard]] std::optional<std::string> convert_llama2c_tokenizer(std::string_view bytes, const std::string& path);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_LLAMA2C_TOKENIZER_HPP
