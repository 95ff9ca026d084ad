#include "task_table.hpp"

#include "accuracy.hpp"
#include "text_table.hpp"

#include <fmt/format.h>

#include <string_view>
#include <vector>

namespace kvkeep_eval {

namespace {

using cells = std::vector<std::vector<std::string>>;

std::string main_rows(const task_report& report) {
  cells out{{"policy"}};
  for (const accuracy& each : report.policies[0].accuracies) {
    out[0].push_back(each.name + " %");
  }
  for (const char* const name : {"turns", "tokens", "tokens kept", "tokens/s"}) {
    out[0].emplace_back(name);
  }
  for (const task_result& result : report.policies) {
    std::vector<std::string>& row = out.emplace_back(1, result.spec);
    for (const accuracy& each : result.accuracies) {
      row.push_back(share_text(each));
    }
    row.insert(row.end(), {grouped(result.turns), grouped(result.tokens), grouped(result.kept_tokens),
                           measured_text(result.tokens_per_second)});
  }
  return align(out);
}

// What explains recall: whether the word was worth keeping by its surprisal, whether it was kept, and whether it was read.
std::string fact_rows(const task_report& report) {
  cells out{{"the fact's word", "surprisal (first)", "rank (first)", "of", "held %", "in part %", "recall % if held",
             "in part", "if not"}};
  for (const task_result& result : report.policies) {
    const fact_record fact = result.fact.value_or(fact_record{});
    const std::size_t asked = fact.all_held.asked + fact.some_held.asked + fact.none_held.asked;
    if (asked == 0) {
      out.push_back({result.spec, "-", "-", "-", "-", "-", "-", "-", "-"});
      continue;
    }
    const auto of_all = [&](std::size_t count) {
      return percent(static_cast<double>(count) / static_cast<double>(asked));
    };
    out.push_back({result.spec, fmt::format("{:.2f} ({:.2f})", fact.surprisal, fact.first_surprisal),
                   fmt::format("{:.1f} ({:.1f})", fact.rank, fact.first_rank), fmt::format("{:.1f}", fact.tokens),
                   of_all(fact.all_held.asked), of_all(fact.some_held.asked), share_text(fact.all_held),
                   share_text(fact.some_held), share_text(fact.none_held)});
  }
  return align(out);
}

std::string chance_note(const task_report& report) {
  std::string out;
  for (const accuracy& each : report.policies[0].accuracies) {
    if (each.chance) {
      out += fmt::format("{}{} {}%", out.empty() ? "guessing: " : ", ", each.name, percent(*each.chance));
    }
  }
  return out + "\n";
}

std::string rule_text(std::string_view rule) {
  if (rule == "mean") {
    return "of highest mean log-probability a token";
  }
  return rule == "sum" ? "of highest log-probability" : "that is most likely token by token, else whose first token is";
}

std::string notes(const task_report& report) {
  std::string out =
      fmt::format("[low, high]: 95% confidence (Wilson); chosen is the text {}\n", rule_text(report.rule));
  out += chance_note(report);
  out += "tokens: read; choices that were scored but not chosen are not among them, but in tokens/s their time is\n";
  if (report.policies[0].fact) {
    out +=
        "surprisal: nats, rank: 1 is the dialog's most surprising token before the question; both are means of the "
        "word's tokens (of its first)\n";
  }
  if (report.left_out > 0) {
    out += fmt::format("left out: {} turns that are too long for one of the policies\n", grouped(report.left_out));
  }
  for (const task_result& result : report.policies) {
    if (result.full) {
      out += fmt::format("{}: {} turns, then its cache was full\n", result.spec, grouped(result.turns));
    }
  }
  if (report.interrupted) {
    out += "interrupted: the last row is of what was done by then, and policies that are not listed had not begun\n";
  }
  return out;
}

}  // namespace

std::string to_table(const task_report& report) {
  std::string settings = fmt::format("seed {}", report.seed);
  for (const task_setting& each : report.settings) {
    settings += fmt::format(", {} {}", each.name, each.value);
  }
  std::string out = fmt::format("{}: {} dialogs, {}; model {}, trained on {} tokens; turns of up to {} tokens\n{}\n\n",
                                report.task, grouped(report.dialogs), settings, report.model,
                                grouped(report.trained_length), grouped(report.longest_turn), report.machine);
  if (report.policies.empty()) {
    return out + (report.interrupted ? "interrupted before anything was measured\n" : "");
  }
  out += main_rows(report) + "\n";
  if (report.policies[0].fact) {
    out += fact_rows(report) + "\n";
  }
  return out + notes(report);
}

}  // namespace kvkeep_eval
