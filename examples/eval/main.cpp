// kvkeep-eval: what each KV-cache policy costs and loses on a real model and a real text.

#include "compare.hpp"
#include "failure.hpp"
#include "generate.hpp"
#include "table.hpp"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>

namespace {

using namespace kvkeep_eval;

constexpr std::size_t most_tokens = 1'000'000'000'000;

// The arguments of `kvkeep-eval compare`.
struct compare_arguments {
  compare_options options;
  std::string policies;  // one string, separated by semicolons
  std::filesystem::path json;
};

// Accepts whole numbers in [0, largest]; CLI11's own conversion lets -1 become 2^64 - 1.
CLI::Validator whole_number(std::size_t largest) {
  const auto check = [largest](std::string& text) -> std::string {
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    const bool fits = digits && text.size() <= 15 && std::stoull(text) <= largest;
    return fits ? "" : fmt::format("{} is not a whole number from 0 to {}", text, largest);
  };
  return {check, ""};
}

CLI::App* add_compare(CLI::App& app, compare_arguments& to) {
  CLI::App* const command =
      app.add_subcommand("compare", "Streams a text through several policies and tabulates cost and perplexity");
  command
      ->add_option("--model", to.options.model,
                   "Directory of a Llama model: config.json, model.safetensors, tokenizer.model")
      ->required();
  command->add_option("--text", to.options.text, "UTF-8 text to stream")->required();
  command->add_option("--tokens", to.options.tokens, "How many tokens of the text to predict, after BOS")
      ->check(whole_number(most_tokens))
      ->required();
  command
      ->add_option("--policies", to.policies,
                   "Policy specs separated by ';', such as 'dense;streaming_llm:sinks=4,window=252'")
      ->required();
  command->add_option("--chunk", to.options.chunk, "Tokens per step, 1 to 512")
      ->check(whole_number(most_tokens))
      ->capture_default_str();
  command->add_option("--json", to.json, "Also write the report to this file");
  return command;
}

CLI::App* add_generate(CLI::App& app, generate_options& to) {
  CLI::App* const command = app.add_subcommand("generate", "Continues a prompt greedily under one policy");
  command
      ->add_option("--model", to.model, "Directory of a Llama model in Hugging Face's form, or a llama2.c checkpoint")
      ->required();
  command->add_option("--tokenizer", to.tokenizer,
                      "sentencepiece model or llama2.c tokenizer.bin (default: tokenizer.model in the directory)");
  command->add_option("--prompt", to.prompt, "Text to continue (default: none, right after BOS)");
  command->add_option("--tokens", to.tokens, "The most tokens to generate, 1 or more")
      ->check(whole_number(most_tokens))
      ->required();
  command->add_option("--policy", to.policy, "Policy spec; dense has room for the whole run unless max_tokens is given")
      ->capture_default_str();
  command->add_option("--threads", to.threads, "Threads for the matrix products, 1 or more")
      ->check(whole_number(most_tokens))
      ->capture_default_str();
  return command;
}

// A line of progress on stderr that overwrites itself; only for terminals.
void show_progress(const progress& at) {
  fmt::print(stderr, "\r\x1b[K[{}/{}] {}: {} of {} tokens", at.policy, at.policies, at.spec, at.done, at.total);
}

void clear_progress() { fmt::print(stderr, "\r\x1b[K"); }

void write_json(const std::filesystem::path& path, const comparison& report) {
  std::ofstream file(path, std::ios::binary);
  file << to_json(report) << std::flush;
  if (!file) {
    throw failure(fmt::format("{}: cannot be written", path.string()));
  }
}

// Ends the line of progress, if there is one, also when an error does.
class progress_line {
 public:
  explicit progress_line(bool shown) noexcept : shown_(shown) {}
  progress_line(const progress_line&) = delete;
  progress_line(progress_line&&) = delete;
  progress_line& operator=(const progress_line&) = delete;
  progress_line& operator=(progress_line&&) = delete;
  ~progress_line() {
    if (shown_) {
      clear_progress();
    }
  }

 private:
  bool shown_;
};

comparison run_with_progress(const compare_options& options) {
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  const progress_line line(terminal);
  return compare(options, terminal ? std::function<void(const progress&)>(show_progress) : nullptr);
}

void run_compare(compare_arguments arguments) {
  arguments.options.policies = split_policies(arguments.policies);
  const comparison report = run_with_progress(arguments.options);
  fmt::print("{}", to_table(report));
  if (std::fflush(stdout) != 0) {
    throw failure("standard output cannot be written");
  }
  if (!arguments.json.empty()) {
    write_json(arguments.json, report);
  }
}

void run_generate(const generate_options& options) {
  const auto print = [](std::string_view text) {
    fmt::print("{}", text);
    if (std::fflush(stdout) != 0) {
      throw failure("standard output cannot be written");
    }
  };
  generate(options, print);
  print("\n");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares KV-cache eviction policies on a real model and a real text.", "kvkeep-eval");
  app.set_version_flag("--version", "kvkeep-eval " KVKEEP_EVAL_VERSION);
  app.require_subcommand(1);
  compare_arguments arguments;
  const CLI::App* const compare_command = add_compare(app, arguments);
  generate_options generate_arguments;
  const CLI::App* const generate_command = add_generate(app, generate_arguments);

  CLI11_PARSE(app, argc, argv);
  try {
    if (compare_command->parsed()) {
      run_compare(arguments);
    }
    if (generate_command->parsed()) {
      run_generate(generate_arguments);
    }
    return 0;
  } catch (const std::exception& error) {
    try {
      fmt::print(stderr, "kvkeep-eval: {}\n", error.what());
    } catch (...) {  // stderr itself is broken; the exit code still tells
    }
    return 1;
  }
}
