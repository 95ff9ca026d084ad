// attend: one pass over keys and values for the query heads of one kv head and any number of queries.
//
// Tiles of about 32 KiB of keys: all scores of a tile, an online softmax, then its values. While a tile's keys are scored its
// values are fetched, while those are summed the next tile's keys. Keys and values are read once for all queries of a call.
// Never forms the matrix of all scores; scores, softmax and sums in fp32. A slot that is not read contributes nothing,
// whatever bytes it holds; a non-finite row changes only the outputs of the queries that read it.
#ifndef KVKEEP_ATTENTION_ATTEND_HPP
#define KVKEEP_ATTENTION_ATTEND_HPP

#include <cstddef>
#include <span>

#include "kvkeep/attention/attend_types.hpp"
#include "kvkeep/attention/tile_pass.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Attends some queries over what each of them reads in one pass, adding to their states. Lane is a lane_view. All queries
/// have the same number of heads. Cost: every block read once, however many queries read it.
template <class Lane, class Observer = no_observer>
void attend(const Lane& lane, std::span<const query_run> queries, const score_options& options,
            const attend_scratch& scratch, const Observer& observer = {}) noexcept {
  if (queries.empty()) return;
  detail::tile_pass<Lane, detail::stored_keys, Observer>(lane, queries, options, {}, observer, scratch).run();
}

/// Attends one query where every key has a distance of its own: keys are stored raw and turned as they are read.
/// `turn_block(keys, distances, mask, out)` turns the keys of a block, [head_dim][16], backwards by their distances [16] into
/// out, which has the same shape and may be keys.
template <class Lane, class TurnBlock, class Observer = no_observer>
void attend_scattered(const Lane& lane, const query_run& query, const TurnBlock& turn_block,
                      const score_options& options, const attend_scratch& scratch,
                      const Observer& observer = {}) noexcept {
  detail::tile_pass<Lane, TurnBlock, Observer>(lane, {&query, 1}, options, turn_block, observer, scratch).run();
}

/// Floats that attend_scratch::keys needs for attend_scattered.
template <class KeyCodec>
[[nodiscard]] constexpr std::size_t turned_key_floats(std::size_t head_dim) noexcept {
  return detail::tile_blocks<KeyCodec>(head_dim) * head_dim * block_tokens;
}

KVKEEP_NAMESPACE_END

#endif
