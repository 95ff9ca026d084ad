#ifndef KVKEEP_EVAL_COMMAND_LINE_HPP
#define KVKEEP_EVAL_COMMAND_LINE_HPP

#include <CLI/CLI.hpp>

#include <cstddef>
#include <filesystem>

namespace kvkeep_eval {

// The most tokens that may be asked for.
inline constexpr std::size_t most_stream_tokens = 1'000'000'000'000;

// Accepts whole numbers in [least, most]; CLI11's own conversion lets -1 become 2^64 - 1.
[[nodiscard]] CLI::Validator whole_number(std::size_t least, std::size_t most);

// Accepts anything but nothing, which an unset variable of a shell leaves.
[[nodiscard]] CLI::Validator not_empty();

// Adds --model, --tokenizer and --threads.
void add_model_options(CLI::App& command, std::filesystem::path& model, std::filesystem::path& tokenizer,
                       std::size_t& threads);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_COMMAND_LINE_HPP
