#include "generate_command.hpp"

#include "command_line.hpp"
#include "failure.hpp"
#include "interrupt.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <string_view>

namespace kvkeep_eval {

generate_command::generate_command(CLI::App& app)
    : subcommand(app, "generate", "Continues a prompt greedily under one policy") {
  add_model_options(command(), options_.model, options_.tokenizer, options_.threads);
  command().add_option("--prompt", options_.prompt, "Text to continue (default: none, right after BOS)");
  command()
      .add_option("--tokens", options_.tokens, "The most tokens to generate, 1 or more")
      ->check(whole_number(1, most_stream_tokens))
      ->required();
  command()
      .add_option("--policy", options_.policy,
                  "Policy spec; dense has room for the whole run unless max_tokens is given")
      ->capture_default_str();
}

int generate_command::run() {
  catch_interrupts();
  const auto print = [](std::string_view text) {
    fmt::print("{}", text);
    if (std::fflush(stdout) != 0) {
      throw failure("standard output cannot be written");
    }
  };
  generate(options_, print, [] { return caught_interrupt() != 0; });
  print("\n");
  return caught_interrupt();
}

}  // namespace kvkeep_eval
