#ifndef KVKEEP_EVAL_PLOT_HPP
#define KVKEEP_EVAL_PLOT_HPP

#include "report.hpp"

#include <filesystem>
#include <string>

namespace kvkeep_eval {

// The kinds of picture a plot may be.
enum class picture { svg, png };

// The kind that a file's name asks for; a failure unless it ends in .svg or .png.
[[nodiscard]] picture picture_of(const std::filesystem::path& file);

// A failure unless gnuplot can be run.
void require_gnuplot();

// What gnuplot is told: the loss by position, a curve per policy, and below it one panel per policy that evicts, which
// shows how long some tokens stayed.
[[nodiscard]] std::string plot_script(const comparison& report, picture kind);

// Runs a script by gnuplot, whose picture goes to `file`.
void draw(const std::string& script, const std::filesystem::path& file);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_PLOT_HPP
