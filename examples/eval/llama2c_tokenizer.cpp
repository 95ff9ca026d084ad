#include "llama2c_tokenizer.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvkeep_eval {

namespace {

static_assert(std::endian::native == std::endian::little, "tokenizer.bin is little endian, and is read as it is");

constexpr std::size_t first_byte_piece = 3;  // after <unk>, <s> and </s>
constexpr std::size_t first_normal_piece = first_byte_piece + 256;
constexpr std::string_view first_name = "<unk>";

// What a piece is, by the numbers of sentencepiece_model.proto.
enum class piece_type : std::uint8_t { normal = 1, unknown = 2, control = 3, byte = 6 };

// A protobuf message being written: only the fields that sentencepiece_model.proto needs here.
class message {
 public:
  void add_number(std::uint32_t field, std::uint64_t value) {
    add_varint(field << 3U);
    add_varint(value);
  }
  void add_float(std::uint32_t field, float value) {
    add_varint(field << 3U | 5U);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (unsigned shift = 0; shift < 32; shift += 8) {
      add_byte(bits >> shift);
    }
  }
  void add_bytes(std::uint32_t field, std::string_view bytes) {
    add_varint(field << 3U | 2U);
    add_varint(bytes.size());
    out_ += bytes;
  }
  [[nodiscard]] const std::string& bytes() const noexcept { return out_; }

 private:
  void add_byte(std::uint64_t value) { out_ += static_cast<char>(static_cast<unsigned char>(value & 0xFFU)); }
  void add_varint(std::uint64_t value) {
    for (; value >= 0x80U; value >>= 7U) {
      add_byte(value | 0x80U);
    }
    add_byte(value);
  }

  std::string out_;
};

// The pieces of a tokenizer.bin, one after the other.
class piece_reader {
 public:
  piece_reader(std::string_view bytes, const std::string& path) : path_(path), rest_(bytes) {}

  [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }
  [[nodiscard]] std::size_t next() const noexcept { return next_; }

  [[noreturn]] void refuse(const std::string& why) const {
    throw failure(fmt::format("{}: is not a llama2.c tokenizer ({})", path_, why));
  }

  template <class T>
  [[nodiscard]] T read() {
    T out;
    std::memcpy(&out, take(sizeof(T)).data(), sizeof(T));
    return out;
  }

  // The next piece's text; its score goes to `score`.
  [[nodiscard]] std::string_view read_piece(float& score) {
    score = read<float>();
    const auto length = read<std::int32_t>();
    if (length < 1 || std::isnan(score)) {
      refuse(fmt::format("piece {} has length {} and score {}", next_, length, score));
    }
    const std::string_view text = take(static_cast<std::size_t>(length));
    ++next_;
    return text;
  }

 private:
  std::string_view take(std::size_t count) {
    if (rest_.size() < count) {
      refuse(fmt::format("it ends within piece {}", next_));
    }
    const std::string_view out = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return out;
  }

  const std::string& path_;
  std::string_view rest_;
  std::size_t next_ = 0;
};

// The text as sentencepiece writes it: every blank is U+2581.
std::string escape_blanks(std::string_view text) {
  std::string out;
  for (const char c : text) {
    c == ' ' ? out.append("\xe2\x96\x81") : out.append(1, c);
  }
  return out;
}

piece_type type_of(std::size_t id) noexcept {
  return id == 0                   ? piece_type::unknown
         : id < first_byte_piece   ? piece_type::control
         : id < first_normal_piece ? piece_type::byte
                                   : piece_type::normal;
}

// The text of a piece whose id alone says what it is, or of a normal one.
std::string sentencepiece_text(std::size_t id, std::string_view text) {
  switch (type_of(id)) {
    case piece_type::unknown:
      return std::string(first_name);
    case piece_type::control:
      return id == 1 ? "<s>" : "</s>";  // llama2.c puts line ends around them
    case piece_type::byte:
      return fmt::format("<0x{:02X}>", id - first_byte_piece);
    case piece_type::normal:
      break;
  }
  return escape_blanks(text);
}

// Whether the bytes begin with the longest length, a score, and the piece <unk> with its length.
bool begins_as_llama2c(std::string_view bytes) noexcept {
  constexpr std::string_view length("\5\0\0\0", 4);
  return bytes.size() >= 8 && bytes.substr(8).starts_with(length) && bytes.substr(12).starts_with(first_name);
}

}  // namespace

std::optional<std::string> convert_llama2c_tokenizer(std::string_view bytes, const std::string& path) {
  if (!begins_as_llama2c(bytes)) {
    return std::nullopt;
  }
  piece_reader reader(bytes, path);
  const auto longest = reader.read<std::int32_t>();
  message model;
  while (!reader.at_end()) {
    const std::size_t id = reader.next();
    float score = 0;
    const std::string_view text = reader.read_piece(score);
    if (text.size() > static_cast<std::size_t>(longest)) {
      reader.refuse(fmt::format("piece {} has {} bytes; the longest is said to have {}", id, text.size(), longest));
    }
    const std::string name = sentencepiece_text(id, text);
    if (type_of(id) == piece_type::byte && text != name) {
      reader.refuse(fmt::format("piece {} is not {}", id, name));
    }
    message piece;
    piece.add_bytes(1, name);
    piece.add_float(2, score);
    piece.add_number(3, static_cast<std::uint64_t>(type_of(id)));
    model.add_bytes(1, piece.bytes());
  }
  if (reader.next() < first_normal_piece) {
    reader.refuse(
        fmt::format("{} pieces, less than the {} that every such file begins with", reader.next(), first_normal_piece));
  }
  message trainer;
  trainer.add_number(3, 2);  // model_type: BPE
  trainer.add_number(4, reader.next());
  trainer.add_number(35, 1);  // byte_fallback
  model.add_bytes(2, trainer.bytes());
  message normalizer;
  normalizer.add_bytes(1, "identity");
  normalizer.add_number(3, 1);  // add_dummy_prefix
  normalizer.add_number(4, 0);  // remove_extra_whitespaces
  normalizer.add_number(5, 1);  // escape_whitespaces
  model.add_bytes(3, normalizer.bytes());
  return model.bytes();
}

}  // namespace kvkeep_eval
