#ifndef KVKEEP_EVAL_RECALL_PLOT_HPP
#define KVKEEP_EVAL_RECALL_PLOT_HPP

#include "plot.hpp"
#include "recall_report.hpp"

#include <string>

namespace kvkeep_eval {

// What gnuplot is told: whole answers by length with their intervals, a line per policy; a panel per kind of fact.
[[nodiscard]] std::string plot_script(const recall_report& report, picture kind);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECALL_PLOT_HPP
