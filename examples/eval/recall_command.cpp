#include "recall_command.hpp"

#include "command_output.hpp"
#include "interrupt.hpp"
#include "progress_line.hpp"
#include "recall_json.hpp"
#include "recall_plot.hpp"
#include "recall_table.hpp"

#include <iterator>
#include <map>
#include <optional>

namespace kvkeep_eval {

namespace {

const std::map<std::string, fact_kind>& kinds_by_name() {
  static const auto names = by_name(std::vector<fact_kind>(std::begin(fact_kinds), std::end(fact_kinds)));
  return names;
}

}  // namespace

recall_command::recall_command(CLI::App& app)
    : subcommand(app, "recall",
                 "Hides facts at some depths of texts of some lengths, asks for them, and tells how often each policy "
                 "let the model answer") {
  add_model_options(command(), options_.model, options_.tokenizer, options_.threads);
  command().add_option("--text", options_.text, "UTF-8 text to hide facts in")->check(not_empty())->required();
  command()
      .add_option("--policies", policies_,
                  "Policy specs separated by ';'; those that keep everything get room for the longest document unless "
                  "they say otherwise (default: eight that read about as many tokens as the model was trained on)")
      ->check(not_empty());
  command()
      .add_option("--lengths", options_.lengths, "Tokens of the documents, separated by ','")
      ->delimiter(',')
      ->check(whole_number(least_recall_length, most_recall_length))
      ->capture_default_str();
  command()
      .add_option("--depths", options_.depths, "Where facts are hidden, in percent of the document, separated by ','")
      ->delimiter(',')
      ->check(whole_number(0, 100))
      ->capture_default_str();
  command()
      .add_option("--documents", options_.documents, "Documents of each length and depth")
      ->check(whole_number(1, most_recall_documents))
      ->capture_default_str();
  for (const fact_kind kind : options_.kinds) {
    kinds_.emplace_back(text_of(kind));
  }
  command()
      .add_option("--kinds", kinds_,
                  "What every document hides, separated by ',': grocery, pass_key, distinct_key (of five different "
                  "digits)")
      ->delimiter(',')
      ->check(CLI::IsMember(kinds_by_name()))
      ->capture_default_str();
  command()
      .add_option("--seed", options_.seed, "Seed of the documents")
      ->check(whole_number(0, 4294967295U))
      ->capture_default_str();
  command()
      .add_option("--chunk", options_.chunk, "Tokens per step of a document, 1 to 512; questions are read one by one")
      ->check(whole_number(1, largest_chunk))
      ->capture_default_str();
  add_output_options();
}

void recall_command::add_output_options() {
  add_tier_options(command(), options_.tiers);
  command()
      .add_option("--json", json_, "Also write the report, by policy, length, depth and kind, to this file")
      ->check(not_empty());
  command()
      .add_option("--plot", plot_, "Also draw accuracy by length to this .svg or .png (by gnuplot)")
      ->check(not_empty());
}

recall_report recall_command::run_with_progress() const {
  progress_line line;
  return run_recall(options_, line.hooks());
}

int recall_command::run() {
  if (!policies_.empty()) {
    options_.policies = split_policies(policies_);
  }
  options_.kinds.clear();
  for (const std::string& kind : kinds_) {
    options_.kinds.push_back(kinds_by_name().at(kind));
  }
  const std::vector<std::filesystem::path> outputs{json_, plot_, options_.tiers.spill};
  refuse_lost_files(outputs, model_inputs(options_.text, options_.model, options_.tokenizer));
  const std::optional<picture> kind = wanted_picture(plot_);
  const std::optional<output_file> json = wanted_file(json_);
  const std::optional<output_file> plot = wanted_file(plot_);

  catch_interrupts();
  const recall_report report = run_with_progress();

  std::string trouble = report.error;
  if (!report.results.empty()) {  // with nothing measured, the files of an earlier run are worth more
    if (json) {
      json->replace(to_json(report));
    }
    const auto script = [&](picture as) { return plot_script(report, as); };
    draw_to(plot, kind, script, trouble);
  }
  return finish(to_table(report), trouble, report.interrupted);
}

}  // namespace kvkeep_eval
