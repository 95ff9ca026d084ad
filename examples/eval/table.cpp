#include "table.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <iterator>

namespace kvkeep_eval {

namespace {

constexpr std::size_t columns = 6;
using row = std::array<std::string, columns>;

// A number with its thousands apart: 1234567 is "1,234,567".
std::string grouped(std::size_t number) {
  std::string digits = fmt::to_string(number);
  for (std::size_t i = digits.size(); i > 3;) {
    i -= 3;
    digits.insert(i, 1, ',');
  }
  return digits;
}

row to_row(const policy_result& result) {
  return {result.spec,
          grouped(result.kept_tokens),
          grouped(result.kv_bytes),
          fmt::format("{:.2f}", result.perplexity),
          result.perplexity_beyond_trained ? fmt::format("{:.2f}", *result.perplexity_beyond_trained) : "-",
          fmt::format("{:.0f}", result.tokens_per_second)};
}

}  // namespace

std::string to_table(const comparison& report) {
  std::vector<row> rows{
      {"policy", "tokens kept", "KV bytes", "perplexity", fmt::format("beyond {}", report.trained_length), "tokens/s"}};
  std::transform(report.policies.begin(), report.policies.end(), std::back_inserter(rows), to_row);

  std::array<std::size_t, columns> width{};
  for (const row& line : rows) {
    for (std::size_t i = 0; i < columns; ++i) {
      width[i] = std::max(width[i], line[i].size());
    }
  }
  std::string out = fmt::format("model {}, trained on {} tokens; {} tokens of text\n{}\n\n", report.model,
                                grouped(report.trained_length), grouped(report.tokens), report.machine);
  for (const row& line : rows) {
    out += fmt::format("{:<{}}", line[0], width[0]);
    for (std::size_t i = 1; i < columns; ++i) {
      out += fmt::format("  {:>{}}", line[i], width[i]);
    }
    out += '\n';
  }
  return out;
}

std::string to_json(const comparison& report) {
  nlohmann::ordered_json policies = nlohmann::ordered_json::array();
  for (const policy_result& result : report.policies) {
    nlohmann::ordered_json beyond;  // null
    if (result.perplexity_beyond_trained) {
      beyond = *result.perplexity_beyond_trained;
    }
    policies.push_back({{"spec", result.spec},
                        {"kept_tokens", result.kept_tokens},
                        {"kv_bytes", result.kv_bytes},
                        {"perplexity", result.perplexity},
                        {"perplexity_beyond_trained", beyond},
                        {"tokens_per_second", result.tokens_per_second}});
  }
  const nlohmann::ordered_json out{{"machine", report.machine},
                                   {"model", report.model},
                                   {"tokens", report.tokens},
                                   {"trained_length", report.trained_length},
                                   {"policies", policies}};
  // A file name need not be UTF-8; JSON must.
  return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kvkeep_eval
