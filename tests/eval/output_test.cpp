// What a comparison is written as: the table, CSV, JSON, the plot's script, and files that appear whole or not at all.
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <nlohmann/json.hpp>

#include "gnuplot.hpp"
#include "output_file.hpp"
#include "plot.hpp"
#include "progress_line.hpp"
#include "report_json.hpp"
#include "support.hpp"
#include "table.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::comparison;
using kvkeep_eval::output_file;
using kvkeep_eval::policy_result;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

comparison example() {
  comparison report{.machine = "a machine",
                    .model = "m",
                    .tokens = 1000,
                    .trained_length = 256,
                    .chunk = 8,
                    .recompute_every = 10,
                    .baseline = "recompute:window=9",
                    .interrupted = false,
                    .error = {},
                    .policies = {}};
  policy_result dense;
  dense.spec = "dense:max_tokens=500";
  dense.tokens = 500;
  dense.kept_tokens = 500;
  dense.kv_bytes = 1234567;
  dense.perplexity = 10.25;
  dense.full = true;
  dense.perplexity_beyond_trained = 11.5;
  dense.tokens_per_second = 1234.75;
  dense.step_ms_p50 = 1.5;
  dense.step_ms_p99 = 2.5;
  dense.peak_rss_bytes = 3U << 20U;
  dense.sampled = {.positions = 50, .total = 9.75, .beyond_trained = 8.5, .loss = {}};
  dense.paired = {.positions = 24, .mean = 0.25, .standard_error = 0.125};
  dense.loss = {{.position = 0, .mean = 2.5, .count = 16, .step_ms = 1.25, .rss_bytes = 77},
                {.position = 16, .mean = 3.5, .count = 484, .step_ms = 1.75, .rss_bytes = 88}};
  policy_result window;
  window.spec = "it's,\"odd\"";
  window.tokens = 1000;
  window.perplexity = 7;
  window.evicted = 900;
  window.lifelines = {{.token = 0, .evicted = 100}, {.token = 950, .evicted = {}}};
  window.loss = {{.position = 0, .mean = 2, .count = 1000, .step_ms = 1, .rss_bytes = 0}};
  policy_result oracle = window;
  oracle.spec = "recompute:window=9";
  oracle.oracle = true;
  oracle.perplexity.reset();
  oracle.evicted = 0;
  oracle.lifelines.clear();
  report.policies = {dense, window, oracle};
  return report;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Table, SaysWhatWasMeasured) {
  const std::string table = to_table(example());
  EXPECT_TRUE(has(table, "model m, trained on 256 tokens; 1,000 tokens of text in steps of 8\na machine\n\n")) << table;
  EXPECT_TRUE(has(table,
                  "policy                tokens kept   KV bytes  perplexity  beyond 256  sampled  beyond 256   "
                  "loss - baseline  tokens/s  step ms p50  p99  peak MiB\n"))
      << table;
  EXPECT_TRUE(has(table,
                  "dense:max_tokens=500          500  1,234,567       10.25       11.50     9.75        8.50  "
                  "+0.2500 ± 0.1250     1,235          1.5  2.5         3\n"))
      << table;
  EXPECT_TRUE(has(table, "recompute:window=9              0          0           -           -        -           -"))
      << table;
  EXPECT_TRUE(has(table, "less those of recompute:window=9, at the positions of both from 256 on (up to 24)\n"));
  EXPECT_TRUE(has(table, "one position in 10"));
  EXPECT_TRUE(has(table, "\ndense:max_tokens=500: 500 of 1,000 tokens, then its cache was full\n"));
  EXPECT_FALSE(has(table, "interrupted"));
}

TEST(Table, OfOnePolicyHasNoComparisons) {
  comparison report = example();
  report.policies.resize(1);
  report.recompute_every = 0;
  report.interrupted = true;
  report.policies[0].full = false;
  report.policies[0].paired.reset();
  const std::string table = to_table(report);
  EXPECT_FALSE(has(table, "baseline"));
  EXPECT_FALSE(has(table, "sampled"));
  EXPECT_TRUE(has(table, "500 of 1,000 tokens, then interrupted\n"));
  report.policies.clear();
  EXPECT_TRUE(has(to_table(report), "interrupted before anything was measured"));
}

TEST(Csv, HasALinePerPolicy) {
  const std::string csv = to_csv(example());
  EXPECT_TRUE(has(csv, "policy,tokens,kept_tokens,")) << csv;
  EXPECT_TRUE(
      has(csv, "\ndense:max_tokens=500,500,500,1234567,10.25,11.5,50,9.75,8.5,0.25,0.125,1234.75,1.5,2.5,3145728\n"))
      << csv;
  EXPECT_TRUE(has(csv, "\n\"it's,\"\"odd\"\"\",1000,0,0,7,,,,,,,0,0,0,\n")) << csv;
}

TEST(Json, HasTheSchema) {
  const nlohmann::json json = nlohmann::json::parse(to_json(example()));
  EXPECT_EQ(json.at("machine"), "a machine");
  EXPECT_EQ(json.at("model"), "m");
  EXPECT_EQ(json.at("tokens"), 1000);
  EXPECT_EQ(json.at("trained_length"), 256);
  EXPECT_EQ(json.at("interrupted"), false);
  EXPECT_TRUE(json.at("error").is_null());
  ASSERT_EQ(json.at("policies").size(), 3U);
  const nlohmann::json& dense = json.at("policies").at(0);
  EXPECT_EQ(dense.at("spec"), "dense:max_tokens=500");
  EXPECT_EQ(dense.at("kept_tokens"), 500);
  EXPECT_EQ(dense.at("kv_bytes"), 1234567);
  EXPECT_EQ(dense.at("perplexity"), 10.25);
  EXPECT_EQ(dense.at("perplexity_beyond_trained"), 11.5);
  EXPECT_EQ(dense.at("tokens_per_second"), 1234.75);
  EXPECT_EQ(dense.at("step_ms").at("p50"), 1.5);
  EXPECT_EQ(dense.at("step_ms").at("p99"), 2.5);
  EXPECT_EQ(dense.at("peak_rss_bytes"), 3 << 20);
  EXPECT_EQ(dense.at("sampled").at("perplexity"), 9.75);
  EXPECT_EQ(dense.at("loss_difference").at("standard_error"), 0.125);
  ASSERT_EQ(dense.at("loss").size(), 2U);
  EXPECT_EQ(dense.at("loss").at(1).at("position"), 16);
  EXPECT_EQ(dense.at("loss").at(1).at("mean"), 3.5);
  EXPECT_EQ(dense.at("loss").at(1).at("count"), 484);
  const nlohmann::json& window = json.at("policies").at(1);
  EXPECT_TRUE(window.at("peak_rss_bytes").is_null());
  EXPECT_TRUE(window.at("perplexity_beyond_trained").is_null());
  EXPECT_TRUE(window.at("sampled").is_null());
  EXPECT_EQ(window.at("evicted_tokens"), 900);
  EXPECT_EQ(window.at("lifelines").at(0).at("evicted_at"), 100);
  EXPECT_TRUE(window.at("lifelines").at(1).at("evicted_at").is_null());
  EXPECT_TRUE(json.at("policies").at(2).at("perplexity").is_null());

  comparison odd = example();
  odd.model = "\xff";  // a file name need not be UTF-8
  odd.error = "why";
  EXPECT_EQ(nlohmann::json::parse(to_json(odd)).at("model"), "\xEF\xBF\xBD");
  EXPECT_EQ(nlohmann::json::parse(to_json(odd)).at("error"), "why");
}

TEST(Plot, HasACurvePerPolicyAndAPanelPerPolicyThatEvicts) {
  comparison report = example();
  report.policies[0].sampled.reset();
  const std::string script = plot_script(report, kvkeep_eval::picture::svg);
  EXPECT_TRUE(has(script, "$loss0 << EOD\n8 2.5\n258 3.5\nEOD\n")) << script;
  EXPECT_TRUE(has(script, "$life1 << EOD\n0 0 100 0\n950 950 50 0\nEOD\n")) << script;
  EXPECT_FALSE(has(script, "$life0"));
  EXPECT_FALSE(has(script, "$life2"));
  EXPECT_TRUE(has(script, "title 'it''s,\"odd\"'")) << script;
  EXPECT_TRUE(has(script, "set terminal svg"));
  EXPECT_TRUE(has(plot_script(example(), kvkeep_eval::picture::png), "set terminal pngcairo"));
}

TEST(Plot, ShowsOnlyThePositionsThatAllHave) {
  comparison report = example();
  report.policies[0].sampled->loss = {{.position = 0, .mean = 7.5, .count = 20, .step_ms = 0, .rss_bytes = 0}};
  EXPECT_TRUE(has(plot_script(report, kvkeep_eval::picture::svg), "$loss0 << EOD\n250 7.5\nEOD\n"));
}

TEST(Plot, IsDrawnByGnuplot) {
  using kvkeep_eval::draw;
  using kvkeep_eval::picture;
  ASSERT_NO_THROW(kvkeep_eval::require_gnuplot(picture::svg));
  ASSERT_NO_THROW(kvkeep_eval::require_gnuplot(picture::png));
  comparison report = example();
  report.policies[0].sampled.reset();
  const std::string svg = draw(plot_script(report, picture::svg), picture::svg);
  EXPECT_TRUE(has(svg, "<svg"));
  EXPECT_TRUE(has(svg, "dense:max_tokens=500"));
  EXPECT_TRUE(has(svg, "trained length"));
  EXPECT_EQ(draw(plot_script(report, picture::png), picture::png).substr(0, 4), "\x89PNG");
  for (const std::size_t tokens : {1U, 2U, 20U, 31U}) {  // streams that end before a curve's usual begin
    report.tokens = tokens;
    for (auto& policy : report.policies) {
      policy.tokens = tokens;
      policy.loss.resize(1);
    }
    EXPECT_TRUE(has(draw(plot_script(report, picture::svg), picture::svg), "<svg")) << tokens;
  }
  expect_failure([&] { static_cast<void>(draw("set nonsense nonsense\n", picture::png)); },
                 {"gnuplot ended with status", "unrecognized option"});
  expect_failure([&] { static_cast<void>(draw("print 'no picture'\n", picture::svg)); }, {"incomplete"});
}

TEST(Plot, KnowsItsKindByTheName) {
  EXPECT_EQ(kvkeep_eval::picture_of("a/b.svg"), kvkeep_eval::picture::svg);
  EXPECT_EQ(kvkeep_eval::picture_of("b.png"), kvkeep_eval::picture::png);
  for (const char* const name : {"b.pdf", "svg", "b.svg.gz"}) {
    expect_failure([&] { static_cast<void>(kvkeep_eval::picture_of(name)); }, {name, ".svg or .png"});
  }
}

TEST(Progress, SaysHowLong) {
  using kvkeep_eval::duration_text;
  EXPECT_EQ(duration_text(0), "0 s");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(59.6), "1 min 00 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(3600 + 5 * 60 + 59), "1 h 05 min");
}

TEST(Progress, FitsTheTerminal) {
  const kvkeep_eval::progress at{"streaming_llm:sinks=4,window=252", 2, 5, 512, 20000};
  EXPECT_EQ(kvkeep_eval::progress_text(at, ", 3 s left", 200),
            "[2/5] 512 of 20000 tokens, 3 s left: streaming_llm:sinks=4,window=252");
  EXPECT_EQ(kvkeep_eval::progress_text(at, ", 3 s left", 40).size(), 39U);
}

std::size_t files_in(const std::filesystem::path& directory) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

TEST(OutputFile, AppearsWholeOrNotAtAll) {
  const temporary_directory directory;
  const auto path = directory.path() / "report.json";
  { const output_file file(path); }
  EXPECT_EQ(files_in(directory.path()), 0U);

  write_file(path, "old");
  const output_file file(path);
  EXPECT_EQ(contents(path), "old");
  file.replace("new");
  EXPECT_EQ(contents(path), "new");
  file.replace("newer");
  EXPECT_EQ(contents(path), "newer");
  EXPECT_EQ(files_in(directory.path()), 1U);
}

TEST(OutputFile, TouchesNothingElse) {
  const temporary_directory directory;
  const auto path = directory.path() / "report";
  for (int i = 0; i < 3; ++i) {  // names that it might want
    write_file(path.string() + "." + std::to_string(::getpid()) + "-" + std::to_string(i), "mine");
  }
  const output_file file(path);
  file.replace("new");
  EXPECT_EQ(contents(path), "new");
  EXPECT_EQ(files_in(directory.path()), 4U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(contents(path.string() + "." + std::to_string(::getpid()) + "-" + std::to_string(i)), "mine");
  }
}

TEST(OutputFile, FollowsLinks) {
  const temporary_directory directory;
  const auto link = directory.path() / "link";
  const auto other = directory.path() / "other";
  std::filesystem::create_symlink("target", link);
  std::filesystem::create_symlink(link, other);
  const output_file file(other);
  file.replace("new");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(contents(directory.path() / "target"), "new");
}

TEST(OutputFile, IsRefusedBeforeAnythingIsDone) {
  const temporary_directory directory;
  const auto missing = directory.path() / "no" / "report.json";
  expect_failure([&] { const output_file file(missing); }, {missing.string(), "cannot be written"});
  expect_failure([&] { const output_file file(directory.path()); }, {directory.path().string(), "no regular file"});
  expect_failure([&] { const output_file file("/dev/full"); }, {"/dev/full", "no regular file"});
}

}  // namespace
}  // namespace kvkeep_eval_test
