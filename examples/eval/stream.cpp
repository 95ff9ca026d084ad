#include "stream.hpp"

#include "failure.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace kvkeep_eval {

std::vector<token> read_stream(const tokenizer& pieces, token begin, const std::filesystem::path& text,
                               std::size_t tokens, bool repeat) {
  const std::vector<token> once = pieces.encode(read_text(text));
  if (once.size() < tokens && !repeat) {
    throw failure(fmt::format("{}: has {} tokens; {} were asked for", text.string(), once.size(), tokens));
  }
  if (once.size() >= tokens && repeat) {
    throw failure(fmt::format("{}: has {} tokens; {} need no repetition", text.string(), once.size(), tokens));
  }
  if (once.empty()) {
    throw failure(fmt::format("{}: has no tokens", text.string()));
  }
  std::vector<token> stream{begin};
  stream.reserve(tokens + 1);
  while (stream.size() <= tokens) {
    const std::size_t count = std::min(once.size(), tokens + 1 - stream.size());
    stream.insert(stream.end(), once.begin(), once.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return stream;
}

}  // namespace kvkeep_eval
