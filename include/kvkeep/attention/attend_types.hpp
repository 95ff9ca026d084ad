// score_options, query_run, attend_scratch: what the kernel is given.
#ifndef KVKEEP_ATTENTION_ATTEND_TYPES_HPP
#define KVKEEP_ATTENTION_ATTEND_TYPES_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/attention/softmax_state.hpp"
#include "kvkeep/attention/tile.hpp"
#include "kvkeep/core/arena.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What a score is besides the dot product.
struct score_options {
  float softcap = 0.0F;             ///< softcap * tanh(score / softcap); 0: none
  std::span<const float> slopes{};  ///< ALiBi slopes of the group's heads, [group]; empty: none
};

/// The observer that wants to know nothing. An observer is told the finished scores of every row and tile before they become
/// weights: observer(query, head, blocks, masks, scores), blocks [n], masks [n], scores [n][16]; a score counts where its bit
/// of the block's mask is set. With the states' final log_sum_exp() they give every weight.
struct no_observer {
  void operator()(std::size_t, std::size_t, std::span<const std::uint32_t>, const std::uint16_t*,
                  const float*) const noexcept {}
};

/// What one query reads in one pass: spans that share an angle, and the query turned to it.
struct query_run {
  std::span<const key_span> spans{};     ///< each block once; by block where several queries are attended together
  const float* turned = nullptr;         ///< turned and scaled, [group][head_dim]
  std::span<softmax_state> states{};     ///< [group], with accumulators of head_dim floats; added to
  std::span<const position> distance{};  ///< by slot, where ALiBi or the keys' own turning needs it
};

namespace detail {

inline constexpr std::size_t tile_bytes = 32768;  // of keys, about: what the next stage's prefetches cover
inline constexpr std::size_t most_tile_blocks = 16;
inline constexpr std::size_t most_tile_tokens = most_tile_blocks * block_tokens;

/// Blocks of a tile.
template <class KeyCodec>
[[nodiscard]] constexpr std::size_t tile_blocks(std::size_t head_dim) noexcept {
  const std::size_t fit = tile_bytes / KeyCodec::key_block_bytes(head_dim);
  return std::clamp<std::size_t>(fit / blocks_at_once * blocks_at_once, blocks_at_once, most_tile_blocks);
}

/// Keys that are read as they are stored.
struct stored_keys {};

}  // namespace detail

/// Working memory of attend for one thread and up to `queries` queries of `group` heads.
struct attend_scratch {
  std::span<float> scores{};          ///< [queries * group][256]: of a tile
  std::span<float> shrink{};          ///< [queries * group]: what a new maximum makes of what was summed before
  std::span<std::uint32_t> active{};  ///< [queries * group]: rows that read something of a tile
  std::span<std::uint16_t> masks{};   ///< [queries][16]: rows of a tile's blocks that are read
  std::span<std::size_t> next{};      ///< [queries]: the first span not yet in a tile
  std::span<float> keys{};            ///< [tile blocks][head_dim][16]: keys turned one by one

  /// Takes it from an arena; `turned_keys` is the number of floats of `keys`.
  void lay_out(detail::arena& memory, std::size_t queries, std::size_t group, std::size_t turned_keys) {
    scores = memory.take<float>(queries * group * detail::most_tile_tokens);
    shrink = memory.take<float>(queries * group);
    active = memory.take<std::uint32_t>(queries * group);
    masks = memory.take<std::uint16_t>(queries * detail::most_tile_blocks);
    next = memory.take<std::size_t>(queries);
    keys = memory.take<float>(turned_keys);
  }
};

KVKEEP_NAMESPACE_END

#endif
