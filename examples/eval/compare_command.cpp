#include "compare_command.hpp"

#include "command_line.hpp"
#include "failure.hpp"
#include "interrupt.hpp"
#include "output_file.hpp"
#include "plot.hpp"
#include "progress_line.hpp"
#include "report_json.hpp"
#include "table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <system_error>
#include <vector>

namespace kvkeep_eval {

compare_command::compare_command(CLI::App& app) {
  CLI::App* const command =
      app.add_subcommand("compare", "Streams a text through several policies and tabulates cost and perplexity");
  command_ = command;
  add_model_options(*command, options_.model, options_.tokenizer, options_.threads);
  command->add_option("--text", options_.text, "UTF-8 text to stream")->required();
  command->add_option("--tokens", options_.tokens, "How many tokens of the text to predict, after BOS")
      ->check(whole_number())
      ->required();
  command->add_flag("--repeat", options_.repeat, "Begin the text again when it ends, for more tokens than it has");
  command
      ->add_option(
          "--policies", policies_,
          "Policy specs separated by ';', such as 'dense;streaming_llm:sinks=4,window=252;recompute:window=256' "
          "(`kvkeep-eval policies` lists them)")
      ->required();
  command->add_option("--baseline", options_.baseline,
                      "The spec that losses are compared with; default recompute if it is listed, else the first");
  command->add_option("--chunk", options_.chunk, "Tokens per step, 1 to 512")
      ->check(whole_number())
      ->capture_default_str();
  recompute_option_ =
      command
          ->add_option("--recompute-every", recompute_every_,
                       "Positions from one recomputed position to the next, at which all policies are compared")
          ->check(whole_number())
          ->capture_default_str();
  command->add_option("--json", json_, "Also write the report, with the loss by position, to this file");
  command->add_option("--csv", csv_, "Also write the table to this file");
  command->add_option("--plot", plot_, "Also draw loss by position and evictions to this .svg or .png (by gnuplot)");
}

void compare_command::refuse_lost_files() const {
  const std::vector<std::filesystem::path> inputs{options_.text,
                                                  options_.model,
                                                  options_.model / "config.json",
                                                  options_.model / "model.safetensors",
                                                  options_.model / "tokenizer.model",
                                                  options_.tokenizer};
  std::vector<std::filesystem::path> seen;
  for (const auto& path : {json_, csv_, plot_}) {
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

comparison compare_command::run_with_progress() const {
  progress_line line;
  compare_hooks hooks;
  if (line.shown()) {
    hooks.report = [&](const progress& at) { line.show(at); };
  }
  hooks.stop = [] { return caught_interrupt() != 0; };
  return compare(options_, hooks);
}

void compare_command::run_if_asked() {
  if (!command_->parsed()) {
    return;
  }
  options_.policies = split_policies(policies_);
  if (recompute_option_->count() > 0) {
    options_.recompute_every = recompute_every_;
  }
  refuse_lost_files();
  const picture kind = plot_.empty() ? picture::svg : picture_of(plot_);
  if (!plot_.empty()) {
    require_gnuplot();
  }
  const auto open = [](const std::filesystem::path& path, std::optional<output_file>& file) {
    if (!path.empty()) {
      file.emplace(path);
    }
  };
  std::optional<output_file> json;
  std::optional<output_file> csv;
  std::optional<output_file> plot;
  open(json_, json);
  open(csv_, csv);
  open(plot_, plot);

  const comparison report = run_with_progress();

  fmt::print("{}", to_table(report));
  if (json) {
    json->write(to_json(report));
    json->commit();
  }
  if (csv) {
    csv->write(to_csv(report));
    csv->commit();
  }
  if (plot && !report.policies.empty()) {
    draw(plot_script(report, kind), plot->part());
    plot->commit();
  }
}

}  // namespace kvkeep_eval
