#include "random_model_command.hpp"

#include "command_line.hpp"

#include <fmt/format.h>

namespace kvkeep_eval {

random_model_command::random_model_command(CLI::App& app) {
  CLI::App* const command = app.add_subcommand(
      "random-model",
      "Writes a model with random weights, to measure speed at shapes for which no trained one is at hand");
  command_ = command;
  command->add_option("--out", options_.out, "Directory to make")->required();
  command->add_option("--tokenizer", options_.tokenizer, "A sentencepiece model, which is copied")->required();
  const auto number = [&](const char* name, std::size_t& value, const char* meaning) {
    command->add_option(name, value, meaning)->check(whole_number())->capture_default_str();
  };
  number("--layers", options_.layers, "Layers");
  number("--hidden", options_.hidden, "Width of the residual stream");
  number("--feed-forward", options_.feed_forward, "Width of the feed-forward layers");
  number("--query-heads", options_.query_heads, "Query heads");
  number("--kv-heads", options_.kv_heads, "Key and value heads");
  number("--head-dim", options_.head_dim, "Width of a head");
  number("--trained-length", options_.trained_length, "Tokens it claims to be trained on");
  command->add_option("--seed", options_.seed, "Seed of the weights")
      ->check(whole_number(4294967295U))
      ->capture_default_str();
}

void random_model_command::run_if_asked() const {
  if (command_->parsed()) {
    const std::size_t weights = write_random_model(options_);
    fmt::print("{}: {:.1f} million weights\n", options_.out.string(), static_cast<double>(weights) / 1e6);
  }
}

}  // namespace kvkeep_eval
