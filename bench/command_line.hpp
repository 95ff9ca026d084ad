// command_line: the options that bench_attend reads itself; all others are Google Benchmark's.
#ifndef KVKEEP_BENCH_COMMAND_LINE_HPP
#define KVKEEP_BENCH_COMMAND_LINE_HPP

#include <cstddef>
#include <string>
#include <vector>

namespace kvkeep_bench {

struct command_line {
  std::string filter = ".";  ///< regular expression; with a leading '-': all rows that do not match
  std::string format = "console";
  std::string out_format = "json";
  bool out = false;   ///< whether a file is to be written
  bool list = false;  ///< print the rows' names and nothing else
  bool help = false;
  bool goals = false;          ///< only the rows that the table of goals is made of, and the table
  double seconds = 3.0;        ///< of calls in a row, about
  std::size_t placements = 6;  ///< in memory in which a row is measured, at most
  std::vector<char*> rest;     ///< for Google Benchmark, the program's name first

  /// Whether a row is wanted. Throws std::regex_error where the filter is no expression.
  [[nodiscard]] bool wants(const std::string& name) const;
};

[[nodiscard]] command_line read_command_line(int argc, char** argv);

/// What --help prints.
extern const char* const usage;

}  // namespace kvkeep_bench

#endif
