// goals: what is to be reached, in which row it shows, and whether it is.
#ifndef KVKEEP_BENCH_GOALS_HPP
#define KVKEEP_BENCH_GOALS_HPP

#include <map>
#include <string>
#include <string_view>

namespace kvkeep_bench {

/// Counters by row and name.
using row_counters = std::map<std::string, std::map<std::string, double>>;

[[nodiscard]] bool is_goal_row(std::string_view row);
/// A line a goal whose row was measured: figure, interval, goal, the least, and which of them is reached. Reached: the
/// interval contains the figure or is better.
[[nodiscard]] std::string goals_table(const row_counters& rows);

}  // namespace kvkeep_bench

#endif
