#include "goals.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace kvkeep_bench {
namespace {

enum class better { higher, lower };

struct goal {
  std::string_view what;
  std::string_view row;
  std::string_view counter;
  better which;
  double wanted;
  double least;
};

constexpr std::string_view limit = "read_limit_fraction";
constexpr std::string_view dense = "ratio_to_dense";
constexpr std::string_view plain = "ratio_to_plain";
constexpr std::string_view eigen = "ratio_to_eigen";
constexpr std::string_view openblas = "ratio_to_openblas";
constexpr std::string_view step = "share_of_step";

constexpr std::array goals{
    goal{"share of the read limit", "attend/dense/f32/Hq32_Hkv8_d128/n4096/q1/t1", limit, better::higher, 0.90, 0.80},
    goal{"", "attend/streaming_llm/f32/Hq32_Hkv8_d128/n4096/q1/t1", limit, better::higher, 0.90, 0.80},
    goal{"", "attend/constant/f32/Hq32_Hkv8_d128/n4096/q1/t1", limit, better::higher, 0.90, 0.80},
    goal{"", "attend/dense/f16/Hq32_Hkv8_d128/n4096/q1/t1", limit, better::higher, 0.90, 0.75},
    goal{"", "attend/dense/bf16/Hq32_Hkv8_d128/n4096/q1/t1", limit, better::higher, 0.90, 0.75},
    goal{"", "attend/dense/int8/Hq32_Hkv8_d128/n4096/q1/t1", limit, better::higher, 0.72, 0.55},
    goal{"scattered, time over dense", "attend/scattered/f32/Hq32_Hkv8_d128/n4096/q1/t1", dense, better::lower, 1.25,
         1.6},
    goal{"", "attend/scattered/f16/Hq32_Hkv8_d128/n4096/q1/t1", dense, better::lower, 1.25, 1.6},
    goal{"", "attend/scattered/bf16/Hq32_Hkv8_d128/n4096/q1/t1", dense, better::lower, 1.25, 1.6},
    goal{"", "attend/scattered/int8/Hq32_Hkv8_d128/n4096/q1/t1", dense, better::lower, 1.25, 1.6},
    goal{"streaming_llm, time over dense", "attend/streaming_llm/f32/Hq32_Hkv8_d128/n4096/q1/t1", dense, better::lower,
         1.01, 1.03},
    goal{"times faster than Eigen", "attend/dense/f32/Hq32_Hkv8_d128/n4096/q1/t1", eigen, better::higher, 5.9, 4.0},
    goal{"", "attend/dense/f32/Hq32_Hkv32_d128/n4096/q1/t1", eigen, better::higher, 1.7, 1.5},
    goal{"", "attend/dense/f32/Hq8_Hkv8_d64/n4096/q1/t1", eigen, better::higher, 1.7, 1.5},
    goal{"two threads, times faster", "attend/dense/f32/Hq32_Hkv8_d128/n4096/q1/t2", "speedup_over_t1", better::higher,
         1.9, 1.6},
    goal{"chunks, times faster than OpenBLAS", "attend/dense/f32/Hq32_Hkv8_d128/n4096/q64/t1", openblas, better::higher,
         1.9, 1.2},
    goal{"", "attend/dense/f32/Hq32_Hkv8_d128/n4096/q512/t1", openblas, better::higher, 1.9, 1.2},
    goal{"with mass, time over without", "attend/dense+mass/f32/Hq32_Hkv8_d128/n4096/q1/t1", plain, better::lower, 1.04,
         1.08},
    goal{"", "attend/dense+mass/f16/Hq32_Hkv8_d128/n4096/q1/t1", plain, better::lower, 1.04, 1.08},
    goal{"", "attend/dense+mass/int8/Hq32_Hkv8_d128/n4096/q1/t1", plain, better::lower, 1.04, 1.08},
    goal{"", "attend/scattered+mass/f32/Hq32_Hkv8_d128/n4096/q1/t1", plain, better::lower, 1.04, 1.08},
    goal{"eviction + insertion, share of a step", "evict/streaming_llm/f32/Hq32_Hkv8_d128/n4096/q1/t1", step,
         better::lower, 0.003, 0.01},
    goal{"", "evict/streaming_llm/f16/Hq32_Hkv8_d128/n4096/q1/t1", step, better::lower, 0.003, 0.01},
    goal{"", "evict/streaming_llm/int8/Hq32_Hkv8_d128/n4096/q1/t1", step, better::lower, 0.003, 0.01},
    goal{"", "evict/scattered/f32/Hq32_Hkv8_d128/n4096/q1/t1", step, better::lower, 0.003, 0.01},
    goal{"by surprisal", "evict/sir_llm/f32/Hq32_Hkv8_d128/n4096/q1/t1", step, better::lower, 0.02, 0.02},
};

/// Which figure an interval contains or betters.
std::string_view reached(const goal& g, double low, double high) {
  const auto meets = [&](double figure) { return g.which == better::higher ? high >= figure : low <= figure; };
  return meets(g.wanted) ? "goal" : meets(g.least) ? "least" : "missed";
}

}  // namespace

bool is_goal_row(std::string_view row) {
  return std::any_of(goals.begin(), goals.end(), [&](const goal& g) { return g.row == row; });
}

std::string goals_table(const row_counters& rows) {
  std::string out;
  std::string_view what;
  const auto end = std::back_inserter(out);
  fmt::format_to(end, "{:60}{:>8}  {:17}{:>7}{:>7}  {}\n", "", "median", "95 % interval", "goal", "least", "reached");
  for (const goal& g : goals) {
    if (!g.what.empty()) what = g.what;
    const auto row = rows.find(std::string(g.row));
    if (row == rows.end()) continue;
    const auto value = row->second.find(std::string(g.counter));
    if (value == row->second.end()) continue;
    const double low = row->second.at(fmt::format("{}_low", g.counter));
    const double high = row->second.at(fmt::format("{}_high", g.counter));
    if (!what.empty()) fmt::format_to(end, "{}\n", what);
    what = {};
    fmt::format_to(end, "  {:58}{:>8.4f}  {:17}{:>7}{:>7}  {}\n", g.row, value->second,
                   fmt::format("{:.4f} .. {:.4f}", low, high), g.wanted, g.least, reached(g, low, high));
  }
  return out;
}

}  // namespace kvkeep_bench
