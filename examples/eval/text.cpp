#include "text.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <fstream>
#include <ios>
#include <system_error>

namespace kvkeep_eval {

namespace {

constexpr std::string_view white_space = " \t\r\n\v\f";

// The length of the well-formed sequence that `bytes` begins with, or 0.
std::size_t sequence_length(std::string_view bytes) noexcept {
  const auto at = [bytes](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80U) {
    return 1;
  }
  const std::size_t length = lead >= 0xF0U ? 4 : lead >= 0xE0U ? 3 : 2;
  if (lead < 0xC2U || lead > 0xF4U || bytes.size() < length) {
    return 0;
  }
  // The second byte is the one that overlong forms, surrogates and values above U+10FFFF would give away.
  const unsigned lowest = lead == 0xE0U ? 0xA0U : lead == 0xF0U ? 0x90U : 0x80U;
  const unsigned highest = lead == 0xEDU ? 0x9FU : lead == 0xF4U ? 0x8FU : 0xBFU;
  if (at(1) < lowest || at(1) > highest) {
    return 0;
  }
  for (std::size_t i = 2; i < length; ++i) {
    if (at(i) < 0x80U || at(i) > 0xBFU) {
      return 0;
    }
  }
  return length;
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw failure(fmt::format("{}: no such file", path.string()));
  }
  if (std::filesystem::is_directory(path, ignored)) {
    throw failure(fmt::format("{}: is a directory, not a file", path.string()));
  }
  std::ifstream file(path, std::ios::binary);
  std::string bytes;
  char block[1U << 16U];  // [65536]
  while (file) {
    file.read(block, static_cast<std::streamsize>(sizeof block));
    bytes.append(block, static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) {
    throw failure(fmt::format("{}: cannot be read", path.string()));
  }
  return bytes;
}

std::string read_text(const std::filesystem::path& path) {
  std::string text = read_file(path);
  if (const auto where = first_invalid_utf8(text)) {
    throw failure(fmt::format("{}: is not UTF-8 text (byte {} begins no valid character)", path.string(), *where));
  }
  if (const std::size_t zero = text.find('\0'); zero != std::string::npos) {
    throw failure(
        fmt::format("{}: is not UTF-8 text (byte {} is 0, as in UTF-16 or a binary file)", path.string(), zero));
  }
  if (text.find_first_not_of(white_space) == std::string::npos) {
    throw failure(fmt::format("{}: has no text", path.string()));
  }
  return text;
}

std::optional<std::size_t> first_invalid_utf8(std::string_view bytes) noexcept {
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t length = sequence_length(bytes.substr(i));
    if (length == 0) {
      return i;
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace kvkeep_eval
