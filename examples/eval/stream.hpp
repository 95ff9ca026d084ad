#ifndef KVKEEP_EVAL_STREAM_HPP
#define KVKEEP_EVAL_STREAM_HPP

#include "tokenizer.hpp"

#include <cstddef>
#include <filesystem>
#include <vector>

namespace kvkeep_eval {

// `begin`, then the first `tokens` tokens of a text, [tokens + 1]; with `repeat`, the text begins again when it ends, as
// often as that takes. A failure if the text is too short, or if it need not be repeated.
[[nodiscard]] std::vector<token> read_stream(const tokenizer& pieces, token begin, const std::filesystem::path& text,
                                             std::size_t tokens, bool repeat);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_STREAM_HPP
