#include "tasks_command.hpp"

#include "command_output.hpp"
#include "interrupt.hpp"
#include "output_file.hpp"
#include "progress_line.hpp"
#include "task_json.hpp"
#include "task_table.hpp"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <vector>

namespace kvkeep_eval {

namespace {

const std::map<std::string, task_name>& tasks_by_name() {
  static const auto names =
      by_name<task_name>({task_name::grocery, task_name::daily_dialog, task_name::rock_paper_scissors});
  return names;
}

const std::map<std::string, choice_rule>& rules_by_name() {
  static const auto names = by_name<choice_rule>({choice_rule::mean, choice_rule::sum, choice_rule::published});
  return names;
}

const std::map<std::string, goods_kind>& goods_by_name() {
  static const auto names = by_name<goods_kind>({goods_kind::groceries, goods_kind::words});
  return names;
}

}  // namespace

tasks_command::tasks_command(CLI::App& app)
    : subcommand(
          app, "tasks",
          "Takes a task of conversations under several policies that keep as many tokens, and tells how often the "
          "right choice was made") {
  add_model_options(command(), options_.model, options_.tokenizer, options_.threads);
  command()
      .add_option("--task", task_, "grocery, dailydialog or rock_paper_scissors")
      ->check(CLI::IsMember(tasks_by_name()))
      ->required();
  command()
      .add_option("--policies", policies_,
                  "Policy specs separated by ';' (default: dense, streaming_llm, sir_llm, random and interval with the "
                  "same budget)")
      ->check(not_empty());
  command()
      .add_option("--budget", options_.budget, "Tokens that each policy keeps, if none are named")
      ->check(whole_number(least_task_budget, most_task_budget))
      ->capture_default_str();
  add_data_options();
  command()
      .add_option(
          "--choose", rule_,
          "mean: the choice of highest mean log-probability a token; sum: of highest log-probability; published: "
          "the rule of the authors' code")
      ->check(CLI::IsMember(rules_by_name()))
      ->capture_default_str();
  command().add_option("--json", json_, "Also write the report to this file")->check(not_empty());
  command()
      .add_option("--write", data_directory_, "Also write the data, as JSON lines, to this directory")
      ->check(CLI::ExistingDirectory);
  command().callback([this] { check_task_arguments(); });
}

void tasks_command::add_data_options() {
  command()
      .add_option(
          "--text", options_.text,
          "grocery: UTF-8 text that distractors are taken from; dailydialog: dialogs, one a line, whose turns end "
          "with __eou__")
      ->check(not_empty());
  const auto number = [&](const char* name, std::size_t& value, std::size_t least, std::size_t most,
                          const char* meaning) {
    command().add_option(name, value, meaning)->check(whole_number(least, most))->capture_default_str();
  };
  command()
      .add_option(
          "--dialogs", options_.dialogs,
          fmt::format("Dialogs of grocery (default: {}); of dailydialog at most (default: all)", usual_grocery_dialogs))
      ->check(whole_number(1, most_task_size));
  number("--distractors", options_.distractors, 0, most_task_size,
         "Turns of a grocery dialog between the fact and the question for it");
  number("--stem-words", options_.stem_words, 1, largest_chunk, "Words of a distractor before its choices");
  command()
      .add_option("--goods", goods_,
                  "What is bought: groceries, or words of the text as in the bundled model's training")
      ->check(CLI::IsMember(goods_by_name()))
      ->capture_default_str();
  number("--rounds", options_.rounds, 1, most_task_size, "Rounds of rock_paper_scissors against each of three players");
  number("--seed", options_.seed, 0, 4294967295U, "Seed of the data");
}

void tasks_command::check_task_arguments() {
  options_.task = tasks_by_name().at(task_);
  options_.rule = rules_by_name().at(rule_);
  options_.goods = goods_by_name().at(goods_);
  const bool reads_text = options_.task != task_name::rock_paper_scissors;
  if (reads_text && options_.text.empty()) {
    throw CLI::RequiredError(fmt::format("--text (by {})", task_));
  }
  const auto refuse = [&](const char* option, bool used) {
    if (!used && command().get_option(option)->count() > 0) {
      throw CLI::ValidationError(option, fmt::format("{} has no use for it", task_));
    }
  };
  refuse("--text", reads_text);
  refuse("--dialogs", reads_text);
  refuse("--distractors", options_.task == task_name::grocery);
  refuse("--stem-words", options_.task == task_name::grocery);
  refuse("--goods", options_.task == task_name::grocery);
  refuse("--rounds", options_.task == task_name::rock_paper_scissors);
  if (!policies_.empty() && command().get_option("--budget")->count() > 0) {
    throw CLI::ValidationError("--budget", "policies that are named bring their own");
  }
}

std::vector<task_file> tasks_command::data_files() const {
  return data_directory_.empty() ? std::vector<task_file>() : make_task_data(options_);
}

int tasks_command::run() {
  if (!policies_.empty()) {
    options_.policies = split_policies(policies_);
  }
  const std::vector<task_file> data = data_files();
  std::vector<std::filesystem::path> outputs{json_};
  for (const task_file& file : data) {
    outputs.push_back(data_directory_ / file.name);
  }
  refuse_lost_files(outputs, model_inputs(options_.text, options_.model, options_.tokenizer));
  const std::optional<output_file> json = wanted_file(json_);
  for (const task_file& file : data) {
    output_file(data_directory_ / file.name).replace(to_json_lines(file.dialogs));
  }
  catch_interrupts();
  const task_report report = [&] {
    progress_line line;
    return run_tasks(options_, line.hooks());
  }();
  if (json && !report.policies.empty()) {
    json->replace(to_json(report));
  }
  return finish(to_table(report), report.error, report.interrupted);
}

}  // namespace kvkeep_eval
