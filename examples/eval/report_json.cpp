#include "report_json.hpp"

#include "json_text.hpp"
#include "tier_json.hpp"

#include <nlohmann/json.hpp>

namespace kvkeep_eval {

namespace {

using json = nlohmann::ordered_json;

json to_json_value(const sampled_perplexity& sampled) {
  json loss = json::array();
  for (const curve_point& point : sampled.loss) {
    loss.push_back({{"position", point.position}, {"mean", point.mean}, {"count", point.count}});
  }
  return {{"positions", sampled.positions},
          {"perplexity", sampled.total},
          {"perplexity_beyond_trained", or_null(sampled.beyond_trained)},
          {"loss", loss}};
}

json to_json_value(const paired_difference& paired) {
  return {{"positions", paired.positions}, {"mean", paired.mean}, {"standard_error", or_null(paired.standard_error)}};
}

json to_json_value(const policy_result& result) {
  json loss = json::array();
  for (const curve_point& point : result.loss) {
    loss.push_back({{"position", point.position},
                    {"mean", point.mean},
                    {"count", point.count},
                    {"step_ms", point.step_ms},
                    {"rss_bytes", point.rss_bytes}});
  }
  json lifelines = json::array();
  for (const lifeline& line : result.lifelines) {
    lifelines.push_back({{"token", line.token}, {"evicted_at", or_null(line.evicted)}});
  }
  return {{"spec", result.spec},
          {"tokens", result.tokens},
          {"kept_tokens", result.kept_tokens},
          {"kv_bytes", result.kv_bytes},
          {"perplexity", or_null(result.perplexity)},
          {"perplexity_beyond_trained", or_null(result.perplexity_beyond_trained)},
          {"tokens_per_second", result.tokens_per_second},
          {"step_ms", {{"p50", result.step_ms_p50}, {"p99", result.step_ms_p99}}},
          {"peak_rss_bytes", or_null(result.peak_rss_bytes)},
          {"tiers", tier_json(result.tiers)},
          {"sampled", result.sampled ? to_json_value(*result.sampled) : json()},
          {"loss_difference", result.paired ? to_json_value(*result.paired) : json()},
          {"evicted_tokens", result.evicted},
          {"loss", loss},
          {"lifelines", lifelines}};
}

}  // namespace

std::string to_json(const comparison& report) {
  json policies = json::array();
  for (const policy_result& result : report.policies) {
    policies.push_back(to_json_value(result));
  }
  const json out{{"machine", report.machine},
                 {"model", report.model},
                 {"tokens", report.tokens},
                 {"trained_length", report.trained_length},
                 {"chunk", report.chunk},
                 {"recompute_every", report.recompute_every == 0 ? json() : json(report.recompute_every)},
                 {"baseline", report.baseline},
                 {"interrupted", report.interrupted},
                 {"error", or_null(report.error)},
                 {"policies", policies}};
  return json_text(out);
}

}  // namespace kvkeep_eval
