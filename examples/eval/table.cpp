#include "table.hpp"

#include "text_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

namespace {

std::string fixed(std::optional<double> value) { return value ? fmt::format("{:.2f}", *value) : "-"; }

std::string mebibytes(std::optional<std::size_t> bytes) { return bytes ? grouped((*bytes + (1U << 19U)) >> 20U) : "-"; }

std::string difference_text(const std::optional<paired_difference>& paired) {
  if (!paired) {
    return "-";
  }
  return paired->standard_error ? fmt::format("{:+.4f} ± {:.4f}", paired->mean, *paired->standard_error)
                                : fmt::format("{:+.4f}", paired->mean);
}

// A column of the table: its name, and what it shows of a row.
struct column {
  std::string name;
  std::function<std::string(const policy_result&)> text;
};

std::vector<column> columns(const comparison& report) {
  const std::string beyond = fmt::format("beyond {}", report.trained_length);
  std::vector<column> out{{"policy", [](const policy_result& r) { return r.spec; }},
                          {"tokens kept", [](const policy_result& r) { return grouped(r.kept_tokens); }},
                          {"KV bytes", [](const policy_result& r) { return grouped(r.kv_bytes); }},
                          {"perplexity", [](const policy_result& r) { return fixed(r.perplexity); }},
                          {beyond, [](const policy_result& r) { return fixed(r.perplexity_beyond_trained); }}};
  if (report.recompute_every != 0) {
    out.push_back({"sampled", [](const policy_result& r) { return r.sampled ? fixed(r.sampled->total) : "-"; }});
    out.push_back({beyond, [](const policy_result& r) { return r.sampled ? fixed(r.sampled->beyond_trained) : "-"; }});
  }
  if (report.policies.size() > 1) {
    out.push_back({"loss - baseline", [](const policy_result& r) { return difference_text(r.paired); }});
  }
  out.push_back({"tokens/s", [](const policy_result& r) { return measured_text(r.tokens_per_second); }});
  out.push_back({"step ms p50", [](const policy_result& r) { return measured_text(r.step_ms_p50); }});
  out.push_back({"p99", [](const policy_result& r) { return measured_text(r.step_ms_p99); }});
  out.push_back({"peak MiB", [](const policy_result& r) { return mebibytes(r.peak_rss_bytes); }});
  return out;
}

std::string rows(const comparison& report) {
  std::vector<std::vector<std::string>> cells(report.policies.size() + 1);
  for (const column& each : columns(report)) {
    cells[0].push_back(each.name);
    for (std::size_t i = 0; i < report.policies.size(); ++i) {
      cells[i + 1].push_back(each.text(report.policies[i]));
    }
  }
  return align(cells);
}

std::string baseline_note(const comparison& report) {
  const std::string from =
      report.tokens > report.trained_length ? fmt::format(" from {} on", report.trained_length) : std::string();
  std::size_t most = 0;
  for (const policy_result& result : report.policies) {
    most = std::max(most, result.paired ? result.paired->positions : 0);
  }
  return fmt::format("loss - baseline: nats per token less those of {}, at the positions of both{} ({})\n",
                     report.baseline, from, most == 0 ? "there are none" : fmt::format("up to {}", grouped(most)));
}

// What the rows mean, a line each, as far as it applies.
std::string notes(const comparison& report) {
  if (report.policies.empty()) {
    return report.interrupted ? "interrupted before anything was measured\n" : "";
  }
  std::string out = fmt::format("KV bytes: room for the tokens kept and for one step of up to {}\n", report.chunk);
  if (report.policies.size() > 1) {
    out += baseline_note(report);
  }
  if (report.recompute_every != 0) {
    out += fmt::format(
        "sampled: the perplexity of one position in {}, where recompute runs; its step is one such position\n",
        report.recompute_every);
  }
  for (const policy_result& result : report.policies) {
    if (result.tokens < report.tokens) {
      out += fmt::format("{}: {} of {} tokens, {}\n", result.spec, grouped(result.tokens), grouped(report.tokens),
                         result.full ? "then its cache was full" : "then interrupted");
    }
  }
  for (const policy_result& result : report.policies) {
    out += tier_note(result.spec, result.tiers);
  }
  if (report.interrupted) {
    out += "interrupted: policies that are not listed had not begun\n";
  }
  return out;
}

// A CSV field, quoted where it must be (RFC 4180).
std::string field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) {
    return std::string(text);
  }
  std::string out = "\"";
  for (const char c : text) {
    out += c == '"' ? "\"\"" : std::string(1, c);
  }
  return out + "\"";
}

template <class T>
std::string or_empty(const std::optional<T>& value) {
  return value ? fmt::format("{}", *value) : std::string();
}

}  // namespace

std::string to_table(const comparison& report) {
  std::string out =
      fmt::format("model {}, trained on {} tokens; {} tokens of text in steps of {}\n{}\n\n", report.model,
                  grouped(report.trained_length), grouped(report.tokens), report.chunk, report.machine);
  out += rows(report);
  const std::string below = notes(report);
  return below.empty() ? out : out + "\n" + below;
}

std::string to_csv(const comparison& report) {
  std::string out =
      "policy,tokens,kept_tokens,kv_bytes,perplexity,perplexity_beyond_trained,sampled_positions,sampled_perplexity,"
      "sampled_perplexity_beyond_trained,loss_difference,loss_difference_standard_error,tokens_per_second,step_ms_p50,"
      "step_ms_p99,peak_rss_bytes\n";
  for (const policy_result& r : report.policies) {
    const sampled_perplexity sampled = r.sampled.value_or(sampled_perplexity{});
    const paired_difference paired = r.paired.value_or(paired_difference{});
    out += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", field(r.spec), r.tokens, r.kept_tokens,
                       r.kv_bytes, or_empty(r.perplexity), or_empty(r.perplexity_beyond_trained),
                       r.sampled ? fmt::to_string(sampled.positions) : "",
                       r.sampled ? fmt::to_string(sampled.total) : "", or_empty(sampled.beyond_trained),
                       r.paired ? fmt::to_string(paired.mean) : "", or_empty(paired.standard_error),
                       r.tokens_per_second, r.step_ms_p50, r.step_ms_p99, or_empty(r.peak_rss_bytes));
  }
  return out;
}

}  // namespace kvkeep_eval
