// What a comparison is written as: the table, CSV, JSON, the plot's script, and files that appear whole or not at all.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

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
                    .policies = {}};
  policy_result dense;
  dense.spec = "dense:max_tokens=500";
  dense.tokens = 500;
  dense.kept_tokens = 500;
  dense.kv_bytes = 1234567;
  dense.perplexity = 10.25;
  dense.perplexity_beyond_trained = 11.5;
  dense.tokens_per_second = 1234.75;
  dense.step_ms_p50 = 1.5;
  dense.step_ms_p99 = 2.5;
  dense.peak_rss_bytes = 3U << 20U;
  dense.sampled = {.positions = 50, .total = 9.75, .beyond_trained = 8.5};
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
  EXPECT_TRUE(has(table, "\ndense:max_tokens=500: 500 of 1,000 tokens, then its cache is full\n"));
  EXPECT_FALSE(has(table, "interrupted"));
}

TEST(Table, OfOnePolicyHasNoComparisons) {
  comparison report = example();
  report.policies.resize(1);
  report.recompute_every = 0;
  report.interrupted = true;
  report.policies[0].paired.reset();
  const std::string table = to_table(report);
  EXPECT_FALSE(has(table, "baseline"));
  EXPECT_FALSE(has(table, "sampled"));
  EXPECT_TRUE(has(table, "500 of 1,000 tokens, interrupted\n"));
  report.policies.clear();
  EXPECT_TRUE(has(to_table(report), "interrupted: policies that are not listed had not begun"));
}

TEST(Csv, HasALinePerPolicy) {
  const std::string csv = to_csv(example());
  EXPECT_TRUE(has(csv, "policy,tokens,kept_tokens,")) << csv;
  EXPECT_TRUE(
      has(csv, "\ndense:max_tokens=500,500,500,1234567,10.25,11.5,50,9.75,8.5,0.25,0.125,1234.75,1.5,2.5,3145728\n"))
      << csv;
  EXPECT_TRUE(has(csv, "\n\"it's,\"\"odd\"\"\",1000,0,0,7,,,,,,,0,0,0,\n")) << csv;
}

TEST(Json, IsTheWholeReport) {
  const std::string json = to_json(example());
  for (const char* const part : {"\"machine\": \"a machine\"",
                                 "\"trained_length\": 256",
                                 "\"spec\": \"dense:max_tokens=500\"",
                                 "\"kept_tokens\": 500",
                                 "\"kv_bytes\": 1234567",
                                 "\"perplexity\": 10.25",
                                 "\"perplexity_beyond_trained\": 11.5",
                                 "\"tokens_per_second\": 1234.75",
                                 "\"p50\": 1.5",
                                 "\"p99\": 2.5",
                                 "\"peak_rss_bytes\": 3145728",
                                 "\"standard_error\": 0.125",
                                 "\"evicted_tokens\": 900",
                                 "\"evicted_at\": 100",
                                 "\"evicted_at\": null",
                                 "\"peak_rss_bytes\": null",
                                 "\"position\": 16",
                                 "\"mean\": 3.5",
                                 "\"count\": 484",
                                 "\"interrupted\": false"}) {
    EXPECT_TRUE(has(json, part)) << part;
  }
  comparison odd = example();
  odd.model = "\xff";  // a file name need not be UTF-8
  EXPECT_TRUE(has(to_json(odd), "\xEF\xBF\xBD"));
}

TEST(Plot, HasACurvePerPolicyAndAPanelPerPolicyThatEvicts) {
  const std::string script = plot_script(example(), kvkeep_eval::picture::svg);
  EXPECT_TRUE(has(script, "$loss0 << EOD\n8 2.5\n258 3.5\nEOD\n")) << script;
  EXPECT_TRUE(has(script, "$life1 << EOD\n0 0 100 0\n950 950 50 0\nEOD\n")) << script;
  EXPECT_FALSE(has(script, "$life0"));
  EXPECT_FALSE(has(script, "$life2"));
  EXPECT_TRUE(has(script, "title 'it''s,\"odd\"'")) << script;
  EXPECT_TRUE(has(script, "set terminal svg"));
  EXPECT_TRUE(has(plot_script(example(), kvkeep_eval::picture::png), "set terminal pngcairo"));
}

TEST(Plot, IsDrawnByGnuplot) {
  try {
    kvkeep_eval::require_gnuplot();
  } catch (const std::exception& error) {
    GTEST_SKIP() << error.what();
  }
  const temporary_directory directory;
  const auto svg = directory.path() / "a.svg";
  kvkeep_eval::draw(plot_script(example(), kvkeep_eval::picture::svg), svg);
  const std::string drawn = contents(svg);
  EXPECT_TRUE(has(drawn, "<svg"));
  EXPECT_TRUE(has(drawn, "</svg>"));
  EXPECT_TRUE(has(drawn, "dense:max_tokens=500"));
  EXPECT_TRUE(has(drawn, "trained length"));

  const auto png = directory.path() / "a.png";
  kvkeep_eval::draw(plot_script(example(), kvkeep_eval::picture::png), png);
  EXPECT_EQ(contents(png).substr(0, 4), "\x89PNG");
  expect_failure([&] { kvkeep_eval::draw("set nonsense nonsense\n", png); }, {"gnuplot ended with status"});
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

TEST(OutputFile, AppearsWholeOrNotAtAll) {
  const temporary_directory directory;
  const auto path = directory.path() / "report.json";
  {
    output_file file(path);
    EXPECT_FALSE(std::filesystem::exists(path));
    file.write("never committed");
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));

  write_file(path, "old");
  {
    output_file file(path);
    file.write("half");
    EXPECT_EQ(contents(path), "old");
    file.write("new");
    file.commit();
  }
  EXPECT_EQ(contents(path), "new");
  { const output_file file(path); }
  EXPECT_EQ(contents(path), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

TEST(OutputFile, IsRefusedBeforeAnythingIsDone) {
  const temporary_directory directory;
  const auto missing = directory.path() / "no" / "report.json";
  expect_failure([&] { const output_file file(missing); }, {missing.string(), "cannot be written"});
  expect_failure([&] { const output_file file(directory.path()); }, {directory.path().string(), "no regular file"});
}

}  // namespace
}  // namespace kvkeep_eval_test
