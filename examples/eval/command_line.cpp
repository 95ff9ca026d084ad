#include "command_line.hpp"

#include <fmt/format.h>

#include <string>

namespace kvkeep_eval {

CLI::Validator whole_number(std::size_t largest) {
  const auto check = [largest](std::string& text) -> std::string {
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    const bool fits = digits && text.size() <= 15 && std::stoull(text) <= largest;
    return fits ? "" : fmt::format("{} is not a whole number from 0 to {}", text, largest);
  };
  return {check, ""};
}

void add_model_options(CLI::App& command, std::filesystem::path& model, std::filesystem::path& tokenizer,
                       std::size_t& threads) {
  command
      .add_option(
          "--model", model,
          "Directory of a Llama model in Hugging Face's form (config.json, model.safetensors, tokenizer.model), or "
          "a llama2.c checkpoint")
      ->required();
  command.add_option("--tokenizer", tokenizer,
                     "sentencepiece model or llama2.c tokenizer.bin (default: tokenizer.model in the directory)");
  command.add_option("--threads", threads, "Threads for the matrix products, 1 or more; attention runs on one")
      ->check(whole_number())
      ->capture_default_str();
}

}  // namespace kvkeep_eval
