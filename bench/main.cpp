// bench_attend: how close kvkeep's attention comes to the speed at which this machine reads memory.
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "command_line.hpp"
#include "goals.hpp"
#include "machine.hpp"
#include "rows.hpp"

namespace kvkeep_bench {
namespace {

/// What rows gave, for the table of goals: counters by row.
row_counters noted;

void note_run(const benchmark::BenchmarkReporter::Run& run) {
  if (run.error_occurred) return;
  for (const auto& [name, counter] : run.counters) noted[run.benchmark_name()][name] = counter.value;
}

/// A reporter that leaves out of a row's name how Google Benchmark runs it (/iterations:1/manual_time).
template <class Reporter>
class plain_names final : public Reporter {
 public:
  using Reporter::Reporter;
  void ReportRuns(const std::vector<benchmark::BenchmarkReporter::Run>& runs) override {
    std::vector<benchmark::BenchmarkReporter::Run> plain = runs;
    for (auto& run : plain) {
      run.run_name.iterations.clear();
      run.run_name.time_type.clear();
      note_run(run);
    }
    Reporter::ReportRuns(plain);
  }
};

std::unique_ptr<benchmark::BenchmarkReporter> make_reporter(const std::string& format) {
  if (format == "json") return std::make_unique<plain_names<benchmark::JSONReporter>>();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // csv will go one day; until then it is one of the formats
  if (format == "csv") return std::make_unique<plain_names<benchmark::CSVReporter>>();
#pragma GCC diagnostic pop
  if (format == "console") {
    using console = benchmark::ConsoleReporter;
    return std::make_unique<plain_names<console>>(isatty(STDOUT_FILENO) != 0 ? console::OO_Color : console::OO_None);
  }
  return nullptr;
}

int run(int argc, char** argv) {
  command_line options = read_command_line(argc, argv);
  if (options.help) {
    std::fputs(usage, stdout);
    return 0;
  }
  int rest = static_cast<int>(options.rest.size());
  options.rest.push_back(nullptr);
  benchmark::Initialize(&rest, options.rest.data());
  if (benchmark::ReportUnrecognizedArguments(rest, options.rest.data())) return 2;
  const auto display = make_reporter(options.format);
  const auto file = make_reporter(options.out_format);
  if (!display || !file) {
    fmt::print(stderr, "formats are console, json and csv\n");
    return 2;
  }

  std::size_t wanted = 0;
  for (const auto& rows : {attend_rows(), step_rows()}) {
    for (const row& each : rows) {
      if (!options.wants(each.name) || (options.goals && !is_goal_row(each.name))) continue;
      ++wanted;
      if (options.list) {
        fmt::print("{}\n", each.name);
        continue;
      }
      const effort how_long{options.seconds, options.placements};
      benchmark::RegisterBenchmark(each.name.c_str(),
                                   [each, how_long](benchmark::State& state) {
                                     try {
                                       each.run(state, how_long);
                                     } catch (const std::exception& e) {
                                       fail(state, e.what());
                                     }
                                   })
          ->Iterations(1)
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
  if (wanted == 0) {
    fmt::print(stderr, "no row matches {}\n", options.filter);
    return 1;
  }
  if (options.list) return 0;
  benchmark::AddCustomContext("machine", machine_line());
  benchmark::RunSpecifiedBenchmarks(display.get(), options.out ? file.get() : nullptr);
  benchmark::Shutdown();
  // Beside a document that a program reads, the table goes to where people read.
  if (options.goals) fmt::print(options.format == "console" ? stdout : stderr, "\n{}", goals_table(noted));
  return any_failed() ? 1 : 0;
}

}  // namespace
}  // namespace kvkeep_bench

int main(int argc, char** argv) {
  try {
    return kvkeep_bench::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_attend: {}\n", e.what());
    return 2;
  }
}
