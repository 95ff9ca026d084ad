#include "recall_json.hpp"

#include "accuracy_json.hpp"
#include "json_text.hpp"
#include "tier_json.hpp"

#include <nlohmann/json.hpp>

namespace kvkeep_eval {

namespace {

using json = nlohmann::ordered_json;

json to_json_value(const recall_point& point, bool retrieves) {
  json layers = json::array();
  for (const layer_lookups& layer : point.layers) {
    layers.push_back({{"first", to_json_value(layer.first)},
                      {"wrong", to_json_value(layer.wrong)},
                      {"mean_rank", layer.first.hits == 0 ? json() : json(layer.mean_rank())}});
  }
  json answers = json::array();
  for (const recall_answer& answer : point.answers) {
    answers.push_back({{"hidden", answer.hidden}, {"given", answer.given}});
  }
  return {{"kind", point.kind},
          {"depth", point.depth},
          {"whole", to_json_value(point.whole)},
          {"first", to_json_value(point.first)},
          {"held", to_json_value(point.held)},
          {"retrieved_by_layer", retrieves ? layers : json()},
          {"answers", answers}};
}

json to_json_value(const recall_result& result) {
  json points = json::array();
  for (const recall_point& point : result.points) {
    points.push_back(to_json_value(point, result.retrieves));
  }
  return {{"spec", result.spec},
          {"length", result.length},
          {"skipped", or_null(result.skipped)},
          {"documents", result.documents},
          {"tokens", result.tokens},
          {"tokens_per_second", result.tokens_per_second},
          {"kv_bytes", result.kv_bytes},
          {"tiers", tier_json(result.tiers)},
          {"points", points}};
}

}  // namespace

std::string to_json(const recall_report& report) {
  json results = json::array();
  for (const recall_result& result : report.results) {
    results.push_back(to_json_value(result));
  }
  const json out{{"machine", report.machine},
                 {"model", report.model},
                 {"trained_length", report.trained_length},
                 {"text", report.text},
                 {"seed", report.seed},
                 {"chunk", report.chunk},
                 {"documents_per_length_and_depth", report.documents},
                 {"kinds", report.kinds},
                 {"depths", report.depths},
                 {"lengths", report.lengths},
                 {"interrupted", report.interrupted},
                 {"error", or_null(report.error)},
                 {"results", results}};
  return json_text(out);
}

}  // namespace kvkeep_eval
