#include "random_model_command.hpp"

#include "command_line.hpp"
#include "interrupt.hpp"

#include <fmt/format.h>

namespace kvkeep_eval {

random_model_command::random_model_command(CLI::App& app)
    : subcommand(app, "random-model",
                 "Writes a model with random weights, to measure speed at shapes for which no trained one is at hand") {
  command().add_option("--out", options_.out, "Directory to make")->check(not_empty())->required();
  command()
      .add_option("--tokenizer", options_.tokenizer, "A sentencepiece model, which is copied")
      ->check(not_empty())
      ->required();
  const auto number = [&](const char* name, std::size_t& value, const char* meaning) {
    constexpr std::size_t most = std::size_t{1} << 24U;  // as in a config.json
    command().add_option(name, value, meaning)->check(whole_number(1, most))->capture_default_str();
  };
  number("--layers", options_.layers, "Layers");
  number("--hidden", options_.hidden, "Width of the residual stream");
  number("--feed-forward", options_.feed_forward, "Width of the feed-forward layers");
  number("--query-heads", options_.query_heads, "Query heads");
  number("--kv-heads", options_.kv_heads, "Key and value heads");
  number("--head-dim", options_.head_dim, "Width of a head");
  number("--trained-length", options_.trained_length, "Tokens it claims to be trained on");
  command()
      .add_option("--seed", options_.seed, "Seed of the weights")
      ->check(whole_number(0, 4294967295U))
      ->capture_default_str();
}

int random_model_command::run() {
  catch_interrupts();
  const std::size_t weights = write_random_model(options_, [] { return caught_interrupt() != 0; });
  if (weights == 0) {
    return caught_interrupt();
  }
  fmt::print("{}: {:.1f} million weights\n", options_.out.string(), static_cast<double>(weights) / 1e6);
  return 0;
}

}  // namespace kvkeep_eval
