// key_scan: the scores of stored keys, block after block, at the speed at which memory is read.
#ifndef KVKEEP_MEMORY_KEY_SCAN_HPP
#define KVKEEP_MEMORY_KEY_SCAN_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "kvkeep/attention/prefetch.hpp"
#include "kvkeep/attention/tile.hpp"
#include "kvkeep/attention/tile_pass.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Writes the dot products of some queries, [rows][head_dim], with the keys in blocks first .. first + count - 1 of a lane:
/// scores[row * stride + i] for key i. fp32 accumulation, in the order of the components.
template <class Lane>
void scan_keys(const Lane& lane, std::size_t first, std::size_t count, std::span<const float> queries, std::size_t rows,
               float* scores, std::size_t stride) noexcept {
  using key_codec = typename Lane::key_codec;
  const std::size_t dim = lane.head_dim();
  if constexpr (key_codec::integer) {
    for (std::size_t b = 0; b < count; ++b) {
      for (std::size_t row = 0; row < rows; ++row) {
        lane.scores(queries.subspan(row * dim, dim), to_slot((first + b) * block_tokens),
                    {scores + row * stride + b * block_tokens, block_tokens});
      }
    }
  } else {
    constexpr std::size_t together = 4;  // blocks that are read while the next are asked for
    for (std::size_t b = 0; b < count; b += together) {
      const std::size_t here = (std::min)(together, count - b);
      const std::size_t next = (std::min)(together, count - b - here);
      std::array<const std::byte*, together> blocks;
      for (std::size_t i = 0; i < here; ++i) blocks[i] = lane.key_block(first + b + i);
      prefetch_window ahead;
      for (std::size_t i = 0; i < next; ++i) {
        ahead.add(lane.key_block(first + b + together + i), key_codec::key_block_bytes(dim));
      }
      const std::size_t side_by_side = here == together && blocks_at_once > 1 ? here / blocks_at_once : here;
      ahead.spread((rows + rows_at_once - 1) / rows_at_once * side_by_side * dim);
      const auto score = [&]<std::size_t Blocks>(std::size_t at) {
        by_groups<rows_at_once>(rows, [&]<std::size_t Rows>(std::size_t row) {
          std::array<const float*, Rows> of;
          std::array<float*, Rows> to;
          for (std::size_t r = 0; r < Rows; ++r) {
            of[r] = queries.data() + (row + r) * dim;
            to[r] = scores + (row + r) * stride + (b + at) * block_tokens;
          }
          score_blocks<key_codec, Rows, Blocks>(blocks.data() + at, dim, of.data(), to.data(), ahead);
        });
      };
      std::size_t at = 0;
      for (; at + blocks_at_once <= here; at += blocks_at_once) score.template operator()<blocks_at_once>(at);
      for (; at < here; ++at) score.template operator()<1>(at);
    }
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
