#include "normal_rows.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include "kvkeep/policy/retain/sampled.hpp"

namespace kvkeep_bench {
namespace {

constexpr std::size_t longest_row = 4096;
constexpr std::size_t starts = std::size_t{1} << 16;

std::vector<float> make_table() {
  std::vector<float> table(starts + longest_row);
  std::mt19937 bits(1);
  std::normal_distribution<float> normal;
  for (float& x : table) x = normal(bits);
  return table;
}

}  // namespace

std::span<const float> normal_row(std::uint64_t number, std::size_t length) {
  static const std::vector<float> table = make_table();
  return std::span<const float>(table).subspan(kvkeep::detail::splitmix64(number) % starts, length);
}

void fill_normal(std::span<float> out, std::uint64_t number, float factor) {
  for (std::size_t begin = 0; begin < out.size(); begin += 64) {
    const std::span<float> part = out.subspan(begin, std::min<std::size_t>(64, out.size() - begin));
    const std::span<const float> row = normal_row(number + begin, part.size());
    for (std::size_t i = 0; i < part.size(); ++i) part[i] = factor * row[i];
  }
}

}  // namespace kvkeep_bench
