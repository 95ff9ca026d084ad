#include "task_json.hpp"

#include "accuracy_json.hpp"
#include "json_text.hpp"

#include <nlohmann/json.hpp>

namespace kvkeep_eval {

namespace {

using json = nlohmann::ordered_json;

json to_json_value(const fact_record& fact) {
  return {{"surprisal", fact.surprisal},
          {"rank", fact.rank},
          {"first_surprisal", fact.first_surprisal},
          {"first_rank", fact.first_rank},
          {"tokens", fact.tokens},
          {"recall_all_held", to_json_value(fact.all_held)},
          {"recall_some_held", to_json_value(fact.some_held)},
          {"recall_none_held", to_json_value(fact.none_held)}};
}

json to_json_value(const task_result& result) {
  json accuracies = json::array();
  for (const accuracy& each : result.accuracies) {
    accuracies.push_back(to_json_value(each));
  }
  return {{"spec", result.spec},
          {"accuracies", accuracies},
          {"fact", result.fact ? to_json_value(*result.fact) : json()},
          {"turns", result.turns},
          {"tokens", result.tokens},
          {"kept_tokens", result.kept_tokens},
          {"tokens_per_second", result.tokens_per_second},
          {"full", result.full}};
}

}  // namespace

std::string to_json(const task_report& report) {
  json policies = json::array();
  for (const task_result& result : report.policies) {
    policies.push_back(to_json_value(result));
  }
  json settings = json::object();
  for (const task_setting& each : report.settings) {
    settings[each.name] = each.value;
  }
  const json out{{"machine", report.machine},
                 {"model", report.model},
                 {"trained_length", report.trained_length},
                 {"task", report.task},
                 {"choice_rule", report.rule},
                 {"seed", report.seed},
                 {"settings", settings},
                 {"dialogs", report.dialogs},
                 {"left_out_turns", report.left_out},
                 {"longest_turn", report.longest_turn},
                 {"interrupted", report.interrupted},
                 {"error", or_null(report.error)},
                 {"policies", policies}};
  return json_text(out);
}

}  // namespace kvkeep_eval
