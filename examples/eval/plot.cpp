#include "plot.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

namespace {

constexpr std::size_t panels_in_a_row = 3;
constexpr int width = 960;         // pixels
constexpr int curve_height = 480;  // of the loss
constexpr int panel_height = 240;  // of a row of panels

// The curve that a plot shows of a policy.
const std::vector<curve_point>& curve_of(const policy_result& result) {
  return result.sampled ? result.sampled->loss : result.loss;
}

// Points at the middle of their stretches: position and mean loss.
std::string curve_lines(const policy_result& result) {
  const std::vector<curve_point>& points = curve_of(result);
  std::string out;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const std::size_t begin = points[i].position;
    const std::size_t end = i + 1 < points.size() ? points[i + 1].position : result.tokens;
    out += fmt::format("{} {}\n", std::max(1.0, static_cast<double>(begin + end) / 2), points[i].mean);
  }
  return out;
}

// A line per watched token, from its arrival to its end: x y dx dy.
std::string lifeline_lines(const policy_result& result) {
  std::string out;
  for (const lifeline& line : result.lifelines) {
    out += fmt::format("{} {} {} 0\n", line.token, line.token, line.evicted.value_or(result.tokens) - line.token);
  }
  return out;
}

std::string curves(const comparison& report) {
  std::string plots;
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    plots +=
        fmt::format("{}$loss{} using 1:2 with linespoints linewidth 2 pointtype 7 pointsize 0.25 linetype {} title {}",
                    i == 0 ? "plot " : ", ", i, i + 1, in_quotes(report.policies[i].spec));
  }
  return fmt::format(
      "set logscale x\nset xrange [{}:{}]\nset xlabel 'position in the stream (tokens)'\n"
      "set ylabel 'loss (nats per token)'\nset key outside center top horizontal maxrows 4 noenhanced\nset grid\n"
      "set arrow 1 from {}, graph 0 to {}, graph 1 nohead dashtype 2\n"
      "set label 1 'trained length' at {}, graph 0.05 offset 0.5, 0\n{}\n"
      "unset arrow 1\nunset label 1\nunset logscale\nunset grid\nunset key\n",
      std::min<std::size_t>(std::max<std::size_t>(report.tokens / 16, 1), 16), std::max<std::size_t>(report.tokens, 2),
      report.trained_length, report.trained_length, report.trained_length, plots);
}

}  // namespace

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    out += c == '\'' ? "''" : std::string(1, c);
  }
  return out + "'";
}

std::string data_block(const std::string& name, const std::string& lines) {
  return fmt::format("{} << EOD\n{}EOD\n", name, lines);
}

picture picture_of(const std::filesystem::path& file) {
  if (file.extension() == ".svg") {
    return picture::svg;
  }
  if (file.extension() == ".png") {
    return picture::png;
  }
  throw failure(fmt::format("plot is {}; its name must end in .svg or .png", file.string()));
}

std::string set_terminal(picture kind, int columns, int rows) {
  return kind == picture::svg
             ? fmt::format("set terminal svg size {},{} font 'sans,13' background 'white'\n", columns, rows)
             : fmt::format("set terminal pngcairo size {},{} font 'sans,10'\n", columns, rows);
}

std::string plot_script(const comparison& report, picture kind) {
  std::vector<std::size_t> evicting;
  std::string out;
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    const policy_result& result = report.policies[i];
    out += data_block(fmt::format("$loss{}", i), curve_lines(result));
    if (result.evicted > 0) {
      out += data_block(fmt::format("$life{}", i), lifeline_lines(result));
      evicting.push_back(i);
    }
  }
  const std::size_t panel_rows = (evicting.size() + panels_in_a_row - 1) / panels_in_a_row;
  const int height = curve_height + panel_height * static_cast<int>(panel_rows);
  const double below = static_cast<double>(height - curve_height) / height;  // share of the height

  out += set_terminal(kind, width, height);
  out += fmt::format("set multiplot\nset origin 0, {}\nset size 1, {}\n", below, 1 - below);
  out += curves(report);
  out += fmt::format("set xrange [0:{}]\nset yrange [0:{}]\nset xtics {}\nset ytics {}\nset format '%.0s%c'\n",
                     report.tokens, report.tokens, std::max(1.0, static_cast<double>(report.tokens) / 4),
                     std::max(1.0, static_cast<double>(report.tokens) / 4));
  for (std::size_t k = 0; k < evicting.size(); ++k) {
    const double share = 1.0 / static_cast<double>(std::min(evicting.size(), panels_in_a_row));
    const double row_share = below / static_cast<double>(panel_rows);
    out += fmt::format(
        "set origin {}, {}\nset size {}, {}\nset title {} noenhanced font ',11'\n"
        "set xlabel 'stream so far'\nset ylabel {}\n"
        "plot $life{} using 1:2:3:4 with vectors nohead linewidth 1.5 linetype {}\n",
        share * static_cast<double>(k % panels_in_a_row),
        below - row_share * static_cast<double>(k / panels_in_a_row + 1), share, row_share,
        in_quotes(report.policies[evicting[k]].spec), k % panels_in_a_row == 0 ? "'token held'" : "''", evicting[k],
        evicting[k] + 1);
  }
  return out + "unset multiplot\n";
}

}  // namespace kvkeep_eval
