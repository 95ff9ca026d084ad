// score_options, query_run, attend_scratch: what the kernel is given.
#ifndef KVKEEP_ATTENTION_ATTEND_TYPES_HPP
#define KVKEEP_ATTENTION_ATTEND_TYPES_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "kvkeep/attention/integer_tile.hpp"
#include "kvkeep/attention/key_span.hpp"
#include "kvkeep/attention/softmax_state.hpp"
#include "kvkeep/attention/tile.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/core/arena.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What a score is besides the dot product.
struct score_options {
  float softcap = 0.0F;             ///< softcap * tanh(score / softcap); 0: none
  std::span<const float> slopes{};  ///< ALiBi slopes of the group's heads, [group]; empty: none
  std::span<const float>
      shifts{};  ///< what is subtracted from the scores of the group's heads, [group]; empty: nothing
};

/// The observer that wants to know nothing. An observer is told the weights of every row and tile:
/// observer(number, head, blocks, masks, weights, reference) with the query_run's number, the head in the group, blocks [n],
/// masks [n] and weights [n][16]: e^(score - reference) where the key's bit of the block's mask is set, 0 elsewhere. The
/// final weight is e^(reference - max) / sum times that, with the final state's max and sum. One that has it is told before,
/// by scores(number, head, blocks, masks, scores), the scores [n][16] that those are made of. See evidence.hpp.
struct no_observer {
  static void clear(std::size_t) noexcept {}
  void operator()(std::size_t, std::size_t, std::span<const std::uint32_t>, const std::uint16_t*, const float*,
                  float) const noexcept {}
};

/// What one query reads in one pass: spans that share an angle, and the query turned to it.
struct query_run {
  std::span<const key_span> spans{};     ///< each block once; by block where several queries are attended together
  const float* turned = nullptr;         ///< turned and scaled, [group][head_dim]
  std::span<softmax_state> states{};     ///< [group], with accumulators of head_dim floats; added to
  std::span<const position> distance{};  ///< by slot, where ALiBi needs it
  std::size_t number = 0;                ///< which query it is, for observers
};

namespace detail {

inline constexpr std::size_t tile_bytes = 32768;  // of keys, about: what the next stage's prefetches cover

/// Blocks of a tile of keys in some codec.
template <class KeyCodec>
[[nodiscard]] constexpr std::size_t tile_blocks(std::size_t head_dim) noexcept {
  constexpr std::size_t together = 4;  // a multiple of what is scored side by side on any instruction set
  const std::size_t fit = tile_bytes / KeyCodec::key_block_bytes(head_dim);
  return std::clamp<std::size_t>(fit / together * together, together, most_tile_blocks);
}

/// From this many rows on a call decodes the keys and values of a tile before it reads them again and again.
inline constexpr std::size_t many_rows = 9;

}  // namespace detail

/// Working memory of attend for one thread and up to `queries` queries of `group` heads.
struct attend_scratch {
  std::span<float> scores{};          ///< [queries * group][256]: of a tile
  std::span<std::uint32_t> active{};  ///< [queries * group]: rows that read something of a tile
  std::span<std::uint16_t> masks{};   ///< [queries][16]: rows of a tile's blocks that are read
  std::span<std::size_t> next{};      ///< [queries]: the first span not yet in a tile
  std::span<float> keys{};            ///< [tile blocks][head_dim][16]: decoded
  std::span<float> values{};          ///< [tile blocks][16][head_dim]: decoded
  std::span<std::int32_t> quads{};    ///< [queries * group][head_dim / 4]: queries as integers, for keys of that kind
  std::span<float> quad_scales{};     ///< [queries * group][head_dim / 32]
  std::span<std::int32_t> offsets{};  ///< [queries * group][head_dim / 32]

  /// Takes it from an arena, for keys and values of these codecs; `turned`: for attend_turned, one query at a time.
  template <class KeyCodec, class ValueCodec>
  void lay_out(detail::arena& memory, std::size_t queries, std::size_t group, std::size_t head_dim,
               bool turned = false) {
    const std::size_t rows = queries * group;
    const std::size_t tile = detail::tile_blocks<f32>(head_dim) * block_tokens * head_dim;
    const bool many = rows >= detail::many_rows && !turned;
    const bool decodes_keys = many && !KeyCodec::integer && !std::is_same_v<KeyCodec, f32>;
    const bool rounds = KeyCodec::integer && !turned;
    scores = memory.take<float>(rows * detail::most_tile_tokens);
    active = memory.take<std::uint32_t>(rows);
    masks = memory.take<std::uint16_t>(queries * detail::most_tile_blocks);
    next = memory.take<std::size_t>(queries);
    keys = memory.take<float>(decodes_keys ? tile : 0);
    const bool decodes_values = ValueCodec::integer ? !detail::multiplies_bytes : !std::is_same_v<ValueCodec, f32>;
    values = memory.take<float>(many && decodes_values ? tile : 0);
    quads = memory.take<std::int32_t>(rounds ? rows * head_dim / 4 : 0);
    quad_scales = memory.take<float>(rounds ? rows * head_dim / detail::quant_group : 0);
    offsets = memory.take<std::int32_t>(rounds ? rows * head_dim / detail::quant_group : 0);
  }
};

KVKEEP_NAMESPACE_END

#endif
