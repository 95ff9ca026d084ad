#include "command_line.hpp"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <regex>
#include <string_view>

namespace kvkeep_bench {

const char* const usage =
    "bench_attend: how close attention comes to the speed of memory\n"
    "\n"
    "  --benchmark_filter=<regex>                the rows to measure; a leading '-' leaves out those that match\n"
    "  --benchmark_list_tests                    print the names of the rows\n"
    "  --benchmark_min_time=<seconds>            calls in a row, about; default 3. At least 30 rounds where they fit "
    "20 s; 0: only to see that it works\n"
    "  --goals                                   the rows that decide whether the goals are reached, and a table of "
    "them\n"
    "  --placements=<n>                          caches are made anew so many times where there is time; default 6\n"
    "  --json                                    JSON on stdout, the same as --benchmark_format=json\n"
    "  --benchmark_format=<console|json|csv>\n"
    "  --benchmark_out=<file>\n"
    "  --benchmark_out_format=<json|console|csv>\n"
    "\n"
    "The time of a row is the median over its rounds; CPU is the processor time of its last call. bench/README.md "
    "explains\n"
    "rows and counters. Exit code 1: a result was wrong, or no row matches.\n"
    "All other options are Google Benchmark's.\n";

command_line read_command_line(int argc, char** argv) {
  command_line out;
  out.rest.push_back(argv[0]);
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto value = [&](std::string_view name) -> std::optional<std::string> {
      if (!argument.starts_with(name) || argument.size() <= name.size() || argument[name.size()] != '=') return {};
      return std::string(argument.substr(name.size() + 1));
    };
    if (argument == "--help") {
      out.help = true;
    } else if (argument == "--goals") {
      out.goals = true;
    } else if (argument == "--json") {
      out.format = "json";
    } else if (argument == "--benchmark_list_tests" || argument == "--benchmark_list_tests=true") {
      out.list = true;
    } else if (const auto filter = value("--benchmark_filter")) {
      out.filter = filter->empty() || *filter == "all" ? "." : *filter;
    } else if (const auto format = value("--benchmark_format")) {
      out.format = *format;
    } else if (const auto out_format = value("--benchmark_out_format")) {
      out.out_format = *out_format;
    } else if (const auto seconds = value("--benchmark_min_time")) {
      out.seconds = std::strtod(seconds->c_str(), nullptr);
    } else if (const auto placements = value("--placements")) {
      out.placements = static_cast<std::size_t>(std::clamp(std::atol(placements->c_str()), 1L, 1000L));
    } else {
      out.out = out.out || value("--benchmark_out").has_value();
      out.rest.push_back(argv[i]);
    }
  }
  return out;
}

bool command_line::wants(const std::string& name) const {
  const bool negative = filter.starts_with('-');
  const std::regex expression(filter.substr(negative ? 1 : 0), std::regex::extended);
  return std::regex_search(name, expression) != negative;
}

}  // namespace kvkeep_bench
