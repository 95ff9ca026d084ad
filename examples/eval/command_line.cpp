#include "command_line.hpp"

#include "failure.hpp"
#include "worker_pool.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <vector>

namespace kvkeep_eval {

CLI::Validator whole_number(std::size_t least, std::size_t most) {
  const auto check = [least, most](std::string& text) -> std::string {
    constexpr std::size_t digits_of_64_bits = 19;  // that always fit
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    const bool fits =
        digits && text.size() <= digits_of_64_bits && std::stoull(text) >= least && std::stoull(text) <= most;
    return fits ? "" : fmt::format("{} is not a whole number from {} to {}", text, least, most);
  };
  return {check, ""};
}

CLI::Validator not_empty() {
  return {[](std::string& text) { return text.empty() ? std::string("its value is empty") : std::string(); }, ""};
}

void add_model_options(CLI::App& command, std::filesystem::path& model, std::filesystem::path& tokenizer,
                       std::size_t& threads) {
  command
      .add_option(
          "--model", model,
          "Directory of a Llama model in Hugging Face's form (config.json, model.safetensors, tokenizer.model), or "
          "a llama2.c checkpoint")
      ->check(not_empty())
      ->required();
  command
      .add_option("--tokenizer", tokenizer,
                  "sentencepiece model or llama2.c tokenizer.bin (default: tokenizer.model in the directory)")
      ->check(not_empty());
  command.add_option("--threads", threads, "Threads for matrix products and attention, 1 or more")
      ->check(whole_number(1, most_threads))
      ->capture_default_str();
}

void add_tier_options(CLI::App& command, tier_choice& choice) {
  constexpr std::size_t most_bytes = std::numeric_limits<std::size_t>::max() / 4;
  constexpr std::size_t most_units = 65536;
  command
      .add_option(
          "--hot-bytes", choice.hot_bytes,
          "RAM for the keys and values of memory units; the others lie in the file --spill (default: all in RAM)")
      ->check(whole_number(1, most_bytes));
  command.add_option("--spill", choice.spill, "File for memory units, made new and removed at the end")
      ->check(not_empty());
  command.add_option("--spill-codec", choice.codec, "How that file stores rows: f32, f16, bf16, int8 or int4")
      ->check(CLI::IsMember(spill_codecs()));
  command
      .add_option("--read-ahead", choice.read_ahead,
                  "Units that a lookup ranks next, to be read from the file before they are asked for")
      ->check(whole_number(1, most_units));
}

std::vector<std::filesystem::path> model_inputs(const std::filesystem::path& text, const std::filesystem::path& model,
                                                const std::filesystem::path& tokenizer) {
  return {text, model, model / "config.json", model / "model.safetensors", model / "tokenizer.model", tokenizer};
}

void refuse_lost_files(std::span<const std::filesystem::path> outputs, std::span<const std::filesystem::path> inputs) {
  std::vector<std::filesystem::path> seen;
  for (const auto& path : outputs) {
    if (path.empty()) {
      continue;
    }
    std::error_code ignored;
    for (const auto& input : inputs) {
      if (std::filesystem::equivalent(path, input, ignored)) {
        throw failure(fmt::format("{}: is an input, and would be overwritten", path.string()));
      }
    }
    const auto full = std::filesystem::weakly_canonical(path, ignored);
    if (std::find(seen.begin(), seen.end(), full) != seen.end()) {
      throw failure(fmt::format("{}: is asked for twice", path.string()));
    }
    seen.push_back(full);
  }
}

}  // namespace kvkeep_eval
