#include "tokenizer.hpp"

#include "failure.hpp"
#include "text.hpp"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <string>

namespace kvkeep_eval {

namespace {

std::vector<token> encode_whole(const sentencepiece::SentencePieceProcessor& processor, std::string_view text) {
  std::vector<token> pieces;
  if (const auto status = processor.Encode(text, &pieces); !status.ok()) {
    throw failure(fmt::format("the tokenizer cannot encode the text: {}", status.ToString()));
  }
  return pieces;
}

// The piece for "\n", if the tokenizer has one that its normaliser hides.
std::optional<token> hidden_line_end(const sentencepiece::SentencePieceProcessor& processor) {
  const token piece = processor.PieceToId("<0x0A>");
  if (processor.IsUnknown(piece) || !processor.IsByte(piece)) {
    return std::nullopt;
  }
  const std::vector<token> with_newline = encode_whole(processor, "a\nb");
  const bool hidden = with_newline == encode_whole(processor, "a b");
  return hidden ? std::optional(piece) : std::nullopt;
}

}  // namespace

tokenizer::tokenizer(const std::filesystem::path& model)
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  const std::string bytes = read_file(model);
  if (bytes.empty() || !processor_->LoadFromSerializedProto(bytes).ok() || processor_->GetPieceSize() <= 0) {
    throw failure(fmt::format("{}: is not a sentencepiece model", model.string()));
  }
  line_end_ = hidden_line_end(*processor_);
}

tokenizer::~tokenizer() = default;
tokenizer::tokenizer(tokenizer&&) noexcept = default;
tokenizer& tokenizer::operator=(tokenizer&&) noexcept = default;

std::size_t tokenizer::vocabulary() const { return static_cast<std::size_t>(processor_->GetPieceSize()); }

std::optional<token> tokenizer::begin_of_stream() const {
  const token bos = processor_->bos_id();
  return bos >= 0 ? std::optional(bos) : std::nullopt;
}

std::vector<token> tokenizer::encode(std::string_view text) const {
  if (!line_end_) {
    return encode_whole(*processor_, text);
  }
  std::vector<token> pieces;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    const std::vector<token> line = encode_whole(*processor_, text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
    if (!line.empty()) {
      pieces.insert(pieces.end(), line.begin(), line.end());
      pieces.push_back(*line_end_);
    }
  }
  return pieces;
}

}  // namespace kvkeep_eval
