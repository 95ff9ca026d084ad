#ifndef KVKEEP_EVAL_COMMAND_LINE_HPP
#define KVKEEP_EVAL_COMMAND_LINE_HPP

#include <CLI/CLI.hpp>

#include <cstddef>
#include <filesystem>

namespace kvkeep_eval {

// The largest number that any option takes.
inline constexpr std::size_t largest_number = 1'000'000'000'000;

// Accepts whole numbers in [0, largest]; CLI11's own conversion lets -1 become 2^64 - 1.
[[nodiscard]] CLI::Validator whole_number(std::size_t largest = largest_number);

// Adds --model, --tokenizer and --threads.
void add_model_options(CLI::App& command, std::filesystem::path& model, std::filesystem::path& tokenizer,
                       std::size_t& threads);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_COMMAND_LINE_HPP
