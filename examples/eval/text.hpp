#ifndef KVKEEP_EVAL_TEXT_HPP
#define KVKEEP_EVAL_TEXT_HPP

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace kvkeep_eval {

// The whole file as bytes; a failure says which file could not be read.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

// The whole file as text; a failure if it is empty or is not UTF-8.
[[nodiscard]] std::string read_text(const std::filesystem::path& path);

// Where the first byte stands that is no part of well-formed UTF-8 (Unicode table 3-7), or nothing.
[[nodiscard]] std::optional<std::size_t> first_invalid_utf8(std::string_view bytes) noexcept;

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TEXT_HPP
