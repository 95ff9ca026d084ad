#include "recall_table.hpp"

#include "text_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

namespace {

using cells = std::vector<std::vector<std::string>>;

// The cells of a row up to the first figure.
std::vector<std::string> row_of(const recall_result& result) { return {result.spec, grouped(result.length)}; }

std::string main_rows(const recall_report& report) {
  cells out{{"policy", "tokens"}};
  for (const std::string& kind : report.kinds) {
    out[0].push_back(kind + " %");
    out[0].emplace_back("first token %");
  }
  for (const char* const name : {"held %", "documents", "KV bytes", "tokens/s"}) {
    out[0].emplace_back(name);
  }
  for (const recall_result& result : report.results) {
    std::vector<std::string>& row = out.emplace_back(row_of(result));
    if (!result.skipped.empty()) {
      row.resize(out[0].size(), "-");
      continue;
    }
    for (const std::string& kind : report.kinds) {
      const recall_point all = sum_of(result, kind);
      row.push_back(share_text(all.whole));
      row.push_back(share_text(all.first));
    }
    const accuracy held = sum_of(result, "").held;
    row.insert(row.end(),
               {percent(static_cast<double>(held.hits) / static_cast<double>(std::max<std::size_t>(held.asked, 1))),
                grouped(result.documents), grouped(result.kv_bytes), measured_text(result.tokens_per_second)});
  }
  return align(out);
}

std::string depth_rows(const recall_report& report) {
  cells out{{"whole answers %, by depth", "tokens", "kind"}};
  for (const std::size_t depth : report.depths) {
    out[0].push_back(fmt::format("{}%", depth));
  }
  for (const recall_result& result : report.results) {
    for (const std::string& kind : report.kinds) {
      if (result.skipped.empty()) {
        std::vector<std::string>& row = out.emplace_back(row_of(result));
        row.push_back(kind);
        for (const std::size_t depth : report.depths) {
          row.push_back(share_text(sum_of(result, kind, depth).whole));
        }
      }
    }
  }
  return align(out);
}

std::string of_questions(const accuracy& of) {
  return of.asked == 0 ? "-" : percent(static_cast<double>(of.hits) / static_cast<double>(of.asked));
}

// What tells the model's failures from the policy's: whether the word was among what was retrieved.
std::string lookup_rows(const recall_report& report) {
  std::size_t layers = 0;
  for (const recall_result& result : report.results) {
    layers = std::max(layers, result.retrieves ? result.points[0].layers.size() : 0);
  }
  if (layers == 0) {
    return {};
  }
  cells out{{"word retrieved % (rank), by layer", "tokens", "kind", "asked"}};
  for (std::size_t layer = 0; layer < layers; ++layer) {
    out[0].push_back(fmt::format("layer {}", layer));
  }
  out[0].emplace_back("wrong answers");
  for (std::size_t layer = 0; layer < layers; ++layer) {
    out[0].push_back(fmt::format("layer {}", layer));
  }
  for (const recall_result& result : report.results) {
    for (const std::string& kind : report.kinds) {
      if (result.retrieves) {
        const recall_point all = sum_of(result, kind);
        std::vector<std::string>& row = out.emplace_back(row_of(result));
        row.push_back(kind);
        row.push_back(grouped(all.layers[0].first.asked));
        for (const layer_lookups& layer : all.layers) {
          row.push_back(of_questions(layer.first) +
                        (layer.first.hits > 0 ? fmt::format(" ({:.1f})", layer.mean_rank()) : ""));
        }
        row.push_back(grouped(all.layers[0].wrong.asked));
        for (const layer_lookups& layer : all.layers) {
          row.push_back(of_questions(layer.wrong));
        }
      }
    }
  }
  return align(out) + "\n";
}

std::string notes(const recall_report& report) {
  std::string out = "% of whole answers, or of their first tokens; [low, high]: 95% confidence (Wilson)\n";
  out += "held: the word had not left what the policy always reads when it was asked for\n";
  if (std::any_of(report.results.begin(), report.results.end(), [](const recall_result& r) { return r.retrieves; })) {
    out +=
        "word retrieved: of questions for words held no more, how often the token wanted next was among what the layer "
        "retrieved: when the answer's first token was predicted (at this mean rank), then where a wrong answer first "
        "went wrong\n";
  }
  for (const recall_result& result : report.results) {
    if (!result.skipped.empty()) {
      out += fmt::format("{}: skipped at {} tokens: {}\n", result.spec, grouped(result.length), result.skipped);
    }
  }
  for (const recall_result& result : report.results) {
    out += tier_note(result.spec, result.tiers);
  }
  if (report.interrupted) {
    out += "interrupted: the last row is of what was done by then, and what is not listed had not begun\n";
  }
  return out;
}

}  // namespace

std::string to_table(const recall_report& report) {
  std::string out = fmt::format(
      "recall of {} in {}: {} documents of each length and depth, seed {}; model {}, trained on {} tokens; steps of "
      "{}\n{}\n\n",
      fmt::join(report.kinds, ", "), report.text, grouped(report.documents), report.seed, report.model,
      grouped(report.trained_length), report.chunk, report.machine);
  if (report.results.empty()) {
    return out + (report.interrupted ? "interrupted before anything was measured\n" : "");
  }
  return out + main_rows(report) + "\n" + depth_rows(report) + "\n" + lookup_rows(report) + notes(report);
}

}  // namespace kvkeep_eval
