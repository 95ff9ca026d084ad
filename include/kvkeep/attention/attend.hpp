// attend: one pass over keys and values for the query heads of one kv head and any number of queries.
//
// Tiles of about 32 KiB of keys: all scores of a tile, an online softmax, then its values. Keys and values are read once for
// all queries of a call, and decoded once. Never forms the matrix of all scores; scores, softmax and sums in fp32; scores of
// integer codecs as integer_tile.hpp says. A slot that is not read contributes nothing, whatever bytes it holds; a non-finite
// row changes only the outputs of the queries that read it.
#ifndef KVKEEP_ATTENTION_ATTEND_HPP
#define KVKEEP_ATTENTION_ATTEND_HPP

#include <algorithm>
#include <cstddef>
#include <span>

#include "kvkeep/attention/attend_types.hpp"
#include "kvkeep/attention/tile_pass.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Attends some queries over what each of them reads in one pass, adding to their states. Lane is a lane_view. All queries
/// have the same number of heads; scratch was laid out for so many queries and heads, and for the lane's codecs.
/// Cost: every block read once, however many queries read it. Calls with scratch and states of their own may run at once.
template <class Lane, class Observer = no_observer>
void attend(const Lane& lane, std::span<const query_run> queries, const score_options& options,
            const attend_scratch& scratch, const Observer& observer = {}) noexcept {
  if (queries.empty()) return;
  const detail::stored_keys keys;
  if (queries.size() * queries[0].states.size() >= detail::many_rows) {
    detail::tile_pass<true, Lane, detail::stored_keys, Observer>(lane, queries, options, keys, observer, scratch).run();
  } else {
    detail::tile_pass<false, Lane, detail::stored_keys, Observer>(lane, queries, options, keys, observer, scratch)
        .run();
  }
}

/// Attends one query over raw keys that have a distance each: they are turned as they are read. heads[i] is what the query
/// reads of lanes[i], the same spans in all of them, and observer_of(i) is told of it. Tile by tile over all lanes, which
/// share the angles of a tile.
template <class Lane, class ObserverOf>
void attend_turned(std::span<const Lane> lanes, std::span<const query_run> heads, const key_turning& turning,
                   const score_options& options, const attend_scratch& scratch,
                   const ObserverOf& observer_of) noexcept {
  using observer = decltype(observer_of(std::size_t{0}));
  using pass = detail::tile_pass<false, Lane, key_turning, observer>;
  if (lanes.empty()) return;
  const std::size_t step = pass::blocks_of_tile(lanes[0].head_dim());
  const std::size_t spans = heads[0].spans.size();
  for (std::size_t first = 0; first < spans; first += step) {
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      const bool last = i + 1 == lanes.size();
      pass(lanes[i], heads.subspan(i, 1), options, turning, observer_of(i), scratch)
          .run_tile(first, last ? lanes[0] : lanes[i + 1], last ? std::min(first + step, spans) : first);
    }
  }
}
template <class Lane>
void attend_turned(std::span<const Lane> lanes, std::span<const query_run> heads, const key_turning& turning,
                   const score_options& options, const attend_scratch& scratch) noexcept {
  attend_turned(lanes, heads, turning, options, scratch, [](std::size_t) { return no_observer{}; });
}

KVKEEP_NAMESPACE_END

#endif
