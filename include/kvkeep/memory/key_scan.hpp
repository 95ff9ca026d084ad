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

/// Blocks whose keys scan_keys scores at once.
inline constexpr std::size_t scanned_blocks = 4;
/// Scores of them for each query.
inline constexpr std::size_t scanned_keys = scanned_blocks * block_tokens;

/// Passes the dot products of some queries, [rows][head_dim], with the keys in blocks first .. first + count - 1 of a lane to
/// take(block, blocks), up to scanned_blocks of them at a time, in order: scores[row * scanned_keys + i] is that of key i from
/// that block on. scores is [rows][scanned_keys]. fp32 accumulation, in the order of the components.
template <class Lane, class Take>
void scan_keys(const Lane& lane, std::size_t first, std::size_t count, std::span<const float> queries, std::size_t rows,
               float* scores, const Take& take) {
  using key_codec = typename Lane::key_codec;
  const std::size_t dim = lane.head_dim();
  for (std::size_t b = 0; b < count; b += scanned_blocks) {
    const std::size_t here = (std::min)(scanned_blocks, count - b);
    if constexpr (key_codec::integer) {
      for (std::size_t i = 0; i < here; ++i) {
        for (std::size_t row = 0; row < rows; ++row) {
          lane.scores(queries.subspan(row * dim, dim), to_slot((first + b + i) * block_tokens),
                      {scores + row * scanned_keys + i * block_tokens, block_tokens});
        }
      }
    } else {
      const std::size_t next = (std::min)(scanned_blocks, count - b - here);
      std::array<const std::byte*, scanned_blocks> blocks;
      for (std::size_t i = 0; i < here; ++i) blocks[i] = lane.key_block(first + b + i);
      prefetch_window ahead;
      for (std::size_t i = 0; i < next; ++i) {
        ahead.add(lane.key_block(first + b + scanned_blocks + i), key_codec::key_block_bytes(dim));
      }
      const std::size_t side_by_side = here == scanned_blocks && blocks_at_once > 1 ? here / blocks_at_once : here;
      ahead.spread((rows + rows_at_once - 1) / rows_at_once * side_by_side * dim);
      const auto score = [&]<std::size_t Blocks>(std::size_t at) {
        by_groups<rows_at_once>(rows, [&]<std::size_t Rows>(std::size_t row) {
          std::array<const float*, Rows> of;
          std::array<float*, Rows> to;
          for (std::size_t r = 0; r < Rows; ++r) {
            of[r] = queries.data() + (row + r) * dim;
            to[r] = scores + (row + r) * scanned_keys + at * block_tokens;
          }
          score_blocks<key_codec, Rows, Blocks>(blocks.data() + at, dim, of.data(), to.data(), ahead);
        });
      };
      std::size_t at = 0;
      for (; at + blocks_at_once <= here; at += blocks_at_once) score.template operator()<blocks_at_once>(at);
      for (; at < here; ++at) score.template operator()<1>(at);
    }
    take(first + b, here);
  }
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
