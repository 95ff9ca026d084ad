#ifndef KVKEEP_EVAL_PLOT_HPP
#define KVKEEP_EVAL_PLOT_HPP

#include "report.hpp"

#include <filesystem>
#include <string>
#include <string_view>

namespace kvkeep_eval {

// The kinds of picture a plot may be.
enum class picture { svg, png };

// The kind that a file's name asks for; a failure unless it ends in .svg or .png.
[[nodiscard]] picture picture_of(const std::filesystem::path& file);

// What tells gnuplot what to draw, and how large, in pixels.
[[nodiscard]] std::string set_terminal(picture kind, int columns, int rows);

// A string in gnuplot's single quotes.
[[nodiscard]] std::string in_quotes(std::string_view text);

// "$name << EOD ... EOD", a table that plots refer to by name.
[[nodiscard]] std::string data_block(const std::string& name, const std::string& lines);

// What gnuplot is told: the loss by position, a curve per policy (of the positions that all have, if only some were
// recomputed), and below it one panel per policy that evicts, which shows how long some tokens stayed.
[[nodiscard]] std::string plot_script(const comparison& report, picture kind);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_PLOT_HPP
