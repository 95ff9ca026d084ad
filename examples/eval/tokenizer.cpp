#include "tokenizer.hpp"

#include "failure.hpp"
#include "llama2c_tokenizer.hpp"
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
  const std::optional<std::string> converted = convert_llama2c_tokenizer(bytes, model.string());
  const std::string& proto = converted ? *converted : bytes;
  if (proto.empty() || !processor_->LoadFromSerializedProto(proto).ok() || processor_->GetPieceSize() <= 0) {
    throw failure(fmt::format(
        "{}: is not a {}", model.string(),
        converted ? "llama2.c tokenizer (two pieces are alike)" : "sentencepiece model, nor a llama2.c tokenizer"));
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

std::optional<token> tokenizer::end_of_stream() const {
  const token eos = processor_->eos_id();
  return eos >= 0 ? std::optional(eos) : std::nullopt;
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

std::vector<token> tokenizer::encode_prompt(std::string_view text) const {
  std::vector<token> pieces = encode(text);
  if (line_end_ && !pieces.empty() && !text.ends_with('\n')) {
    pieces.pop_back();
  }
  return pieces;
}

std::string tokenizer::decode(std::span<const token> pieces) const {
  for (const token piece : pieces) {
    if (piece < 0 || piece >= processor_->GetPieceSize()) {
      throw failure(fmt::format("piece {} is to be decoded; the tokenizer has {}", piece, processor_->GetPieceSize()));
    }
  }
  std::string text;
  if (const auto status = processor_->Decode(std::vector<token>(pieces.begin(), pieces.end()), &text); !status.ok()) {
    throw failure(fmt::format("the tokenizer cannot decode the pieces: {}", status.ToString()));
  }
  return text;
}

}  // namespace kvkeep_eval
