#ifndef KVKEEP_EVAL_GNUPLOT_HPP
#define KVKEEP_EVAL_GNUPLOT_HPP

#include "plot.hpp"

#include <string>

namespace kvkeep_eval {

// A failure unless gnuplot can be run and knows how to draw this kind.
void require_gnuplot(picture kind);

// The picture that gnuplot draws by a script, whole: a failure with gnuplot's own words if it does not.
[[nodiscard]] std::string draw(const std::string& script, picture kind);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_GNUPLOT_HPP
