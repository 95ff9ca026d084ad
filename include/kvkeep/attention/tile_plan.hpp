// tile_plan: the blocks that are scored, softened and added together.
#ifndef KVKEEP_ATTENTION_TILE_PLAN_HPP
#define KVKEEP_ATTENTION_TILE_PLAN_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/attention/attend_types.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The blocks of a tile.
struct tile_plan {
  std::array<std::uint32_t, most_tile_blocks> blocks{};  // ascending where several queries read them
  std::size_t count = 0;
};

/// The next blocks that any query reads, `most` at most, from span next[q] of query q on.
[[nodiscard]] inline tile_plan plan_tile(std::span<const query_run> queries, std::span<const std::size_t> next,
                                         std::size_t most) noexcept {
  tile_plan tile;
  if (queries.size() == 1) {
    const auto spans = queries[0].spans.subspan(next[0]);
    tile.count = std::min(most, spans.size());
    for (std::size_t b = 0; b < tile.count; ++b) tile.blocks[b] = spans[b].block;
    return tile;
  }
  // The smallest block beyond the last one chosen, again and again: queries of a chunk read almost the same ones.
  std::uint64_t beyond = 0;
  while (tile.count < most) {
    std::uint64_t smallest = ~std::uint64_t{0};
    for (std::size_t q = 0; q < queries.size(); ++q) {
      const auto spans = queries[q].spans;
      for (std::size_t i = next[q]; i < spans.size(); ++i) {
        if (spans[i].block >= beyond) {
          smallest = std::min<std::uint64_t>(smallest, spans[i].block);
          break;
        }
      }
    }
    if (smallest == ~std::uint64_t{0}) return tile;
    tile.blocks[tile.count++] = static_cast<std::uint32_t>(smallest);
    beyond = smallest + 1;
  }
  return tile;
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
