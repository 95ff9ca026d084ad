#include "recall_plot.hpp"

#include "binomial.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace kvkeep_eval {

namespace {

constexpr int width = 960;         // pixels
constexpr int panel_height = 360;  // of a kind of fact
constexpr int key_line = 20;       // of the names of two policies

// The policies that were run at some length.
std::vector<std::string> drawn_specs(const recall_report& report) {
  std::vector<std::string> out;
  for (const recall_result& result : report.results) {
    if (result.skipped.empty() && std::find(out.begin(), out.end(), result.spec) == out.end()) {
      out.push_back(result.spec);
    }
  }
  return out;
}

// Length, share in percent and its bounds, a line per length that the policy was run at.
std::string lines_of(const recall_report& report, const std::string& spec, const std::string& kind) {
  std::string out;
  for (const recall_result& result : report.results) {
    const accuracy whole = sum_of(result, kind).whole;
    if (result.spec == spec && whole.asked > 0) {
      const interval bounds = wilson_interval(whole.hits, whole.asked);
      out += fmt::format("{} {} {} {}\n", result.length,
                         100 * static_cast<double>(whole.hits) / static_cast<double>(whole.asked), 100 * bounds.low,
                         100 * bounds.high);
    }
  }
  return out;
}

}  // namespace

std::string plot_script(const recall_report& report, picture kind) {
  const std::vector<std::string> specs = drawn_specs(report);
  const auto [shortest, longest] = std::minmax_element(report.lengths.begin(), report.lengths.end());
  const int key_height = key_line * static_cast<int>(specs.size() + 1);
  const int height = panel_height * static_cast<int>(report.kinds.size()) + key_height;
  std::string out;
  for (std::size_t k = 0; k < report.kinds.size(); ++k) {
    for (std::size_t i = 0; i < specs.size(); ++i) {
      out += data_block(fmt::format("$whole{}_{}", k, i), lines_of(report, specs[i], report.kinds[k]));
    }
  }
  out += set_terminal(kind, width, height);
  out += fmt::format(
      "set multiplot\nset logscale x 2\nset xrange [{}:{}]\nset yrange [-5:105]\nset grid\nset xtics ({})\n"
      "set xlabel 'tokens of the document'\n",
      static_cast<double>(*shortest) / 1.5, static_cast<double>(*longest) * 1.5, fmt::join(report.lengths, ", "));
  double top = 1;  // of what is left of the picture
  for (std::size_t k = 0; k < report.kinds.size(); ++k) {
    const double share = static_cast<double>(panel_height + (k == 0 ? key_height : 0)) / height;
    top -= share;
    out += fmt::format("set origin 0, {}\nset size 1, {}\nset ylabel {} noenhanced\n{}\nplot ", std::max(top, 0.0),
                       share, in_quotes(fmt::format("{}: whole answers (%)", report.kinds[k])),
                       k == 0 ? "set key outside center top vertical maxcols 1 noenhanced" : "unset key");
    for (std::size_t i = 0; i < specs.size(); ++i) {
      out += fmt::format(
          "{}$whole{}_{} using 1:2:3:4 with yerrorlines linewidth 2 pointtype 7 pointsize 0.4 linetype {} "
          "title {}",
          i == 0 ? "" : ", ", k, i, i + 1, in_quotes(specs[i]));
    }
    out += "\n";
  }
  return out + "unset multiplot\n";
}

}  // namespace kvkeep_eval
