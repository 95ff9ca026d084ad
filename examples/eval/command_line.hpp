#ifndef KVKEEP_EVAL_COMMAND_LINE_HPP
#define KVKEEP_EVAL_COMMAND_LINE_HPP

#include "tier_choice.hpp"

#include <CLI/CLI.hpp>

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace kvkeep_eval {

// The most tokens that may be asked for.
inline constexpr std::size_t most_stream_tokens = 1'000'000'000'000;

// A subcommand: its arguments, and what it does with them. CLI11 refers to it, so it stays where it is.
class subcommand {
 public:
  subcommand(const subcommand&) = delete;
  subcommand(subcommand&&) = delete;
  subcommand& operator=(const subcommand&) = delete;
  subcommand& operator=(subcommand&&) = delete;
  virtual ~subcommand() = default;

  // Whether the user named it.
  [[nodiscard]] bool asked() const { return command_.parsed(); }
  // Does it; the signal that cut it short, or 0.
  [[nodiscard]] virtual int run() = 0;

 protected:
  subcommand(CLI::App& app, const std::string& name, const std::string& meaning)
      : command_(*app.add_subcommand(name, meaning)) {}
  [[nodiscard]] CLI::App& command() const noexcept { return command_; }

 private:
  CLI::App& command_;
};

// Accepts whole numbers in [least, most]; CLI11's own conversion lets -1 become 2^64 - 1.
[[nodiscard]] CLI::Validator whole_number(std::size_t least, std::size_t most);

// Accepts anything but nothing, which an unset variable of a shell leaves.
[[nodiscard]] CLI::Validator not_empty();

// The names of some values, as an option takes them.
template <class T>
[[nodiscard]] std::map<std::string, T> by_name(const std::vector<T>& values) {
  std::map<std::string, T> out;
  for (const T value : values) {
    out.emplace(text_of(value), value);
  }
  return out;
}

// Adds --model, --tokenizer and --threads.
void add_model_options(CLI::App& command, std::filesystem::path& model, std::filesystem::path& tokenizer,
                       std::size_t& threads);

// Adds --hot-bytes, --spill, --spill-codec and --read-ahead.
void add_tier_options(CLI::App& command, tier_choice& choice);

// The files that a run reads: a text, and what can make up a model; empty paths where there are none.
[[nodiscard]] std::vector<std::filesystem::path> model_inputs(const std::filesystem::path& text,
                                                              const std::filesystem::path& model,
                                                              const std::filesystem::path& tokenizer);

// A failure if two outputs are one file, or an output is an input; empty paths stand for none.
void refuse_lost_files(std::span<const std::filesystem::path> outputs, std::span<const std::filesystem::path> inputs);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_COMMAND_LINE_HPP
