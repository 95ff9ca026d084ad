#include "compare_command.hpp"

#include "command_line.hpp"
#include "command_output.hpp"
#include "interrupt.hpp"
#include "plot.hpp"
#include "progress_line.hpp"
#include "report_json.hpp"
#include "table.hpp"

#include <optional>
#include <vector>

namespace kvkeep_eval {

compare_command::compare_command(CLI::App& app)
    : subcommand(app, "compare", "Streams a text through several policies and tabulates cost and perplexity") {
  add_model_options(command(), options_.model, options_.tokenizer, options_.threads);
  command().add_option("--text", options_.text, "UTF-8 text to stream")->check(not_empty())->required();
  command()
      .add_option("--tokens", options_.tokens, "How many tokens of the text to predict, after BOS")
      ->check(whole_number(1, most_stream_tokens))
      ->required();
  command().add_flag("--repeat", options_.repeat, "Begin the text again when it ends, for more tokens than it has");
  command()
      .add_option(
          "--policies", policies_,
          "Policy specs separated by ';', such as 'dense;streaming_llm:sinks=4,window=252;recompute:window=256' "
          "(`kvkeep-eval policies` lists them)")
      ->required();
  command()
      .add_option("--baseline", options_.baseline,
                  "The spec that losses are compared with; default recompute if it is listed, else the first")
      ->check(not_empty());
  command()
      .add_option("--chunk", options_.chunk, "Tokens per step, 1 to 512")
      ->check(whole_number(1, largest_chunk))
      ->capture_default_str();
  recompute_option_ =
      command()
          .add_option("--recompute-every", recompute_every_,
                      "Positions from one recomputed position to the next, at which all policies are compared")
          ->check(whole_number(1, most_stream_tokens))
          ->capture_default_str();
  add_tier_options(command(), options_.tiers);
  command()
      .add_option("--json", json_, "Also write the report, with the loss by position, to this file")
      ->check(not_empty());
  command().add_option("--csv", csv_, "Also write the table to this file")->check(not_empty());
  command()
      .add_option("--plot", plot_, "Also draw loss by position and evictions to this .svg or .png (by gnuplot)")
      ->check(not_empty());
}

void compare_command::refuse_lost_files() const {
  const std::vector<std::filesystem::path> outputs{json_, csv_, plot_, options_.tiers.spill};
  kvkeep_eval::refuse_lost_files(outputs, model_inputs(options_.text, options_.model, options_.tokenizer));
}

comparison compare_command::run_with_progress() const {
  progress_line line;
  return compare(options_, line.hooks());
}

int compare_command::run() {
  options_.policies = split_policies(policies_);
  if (recompute_option_->count() > 0) {
    options_.recompute_every = recompute_every_;
  }
  refuse_lost_files();
  const std::optional<picture> kind = wanted_picture(plot_);
  const std::optional<output_file> json = wanted_file(json_);
  const std::optional<output_file> csv = wanted_file(csv_);
  const std::optional<output_file> plot = wanted_file(plot_);

  catch_interrupts();
  const comparison report = run_with_progress();

  std::string trouble = report.error;
  if (!report.policies.empty()) {  // with nothing measured, the files of an earlier run are worth more
    if (json) {
      json->replace(to_json(report));
    }
    if (csv) {
      csv->replace(to_csv(report));
    }
    const auto script = [&](picture as) { return plot_script(report, as); };
    draw_to(plot, kind, script, trouble);
  }
  return finish(to_table(report), trouble, report.interrupted);
}

}  // namespace kvkeep_eval
