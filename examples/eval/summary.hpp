#ifndef KVKEEP_EVAL_SUMMARY_HPP
#define KVKEEP_EVAL_SUMMARY_HPP

#include "record.hpp"
#include "report.hpp"

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace kvkeep_eval {

// exp of the mean of the losses that were measured, or nothing if none was.
[[nodiscard]] std::optional<double> perplexity(std::span<const float> losses);

// The nearest-rank quantile of `values`, 0 < fraction <= 1; 0 if there are none.
[[nodiscard]] double quantile(std::vector<float> values, double fraction);

// The positions at which the points of a curve over `tokens` positions begin, ascending from 0: an eighth of the
// position apart, at least 16 and at most a 64th of the stream, so that both ends of it are resolved; what is left at the
// end belongs to the last.
[[nodiscard]] std::vector<std::size_t> curve_begins(std::size_t tokens);

// The curve of `losses`, which are those of `record` or some of them: a point for every stretch in which a loss was measured.
// Stretches are joined until they have `least` of them, but for the last.
[[nodiscard]] std::vector<curve_point> curve(const stream_record& record, std::span<const float> losses,
                                             std::size_t least = 1);

// The mean of losses[i] - baseline[i] over the positions from `first` on where both were measured; nothing without any.
// Its standard error comes from the means of up to 100 batches of equal length up to the last such position, at least 64 positions each, because
// losses at neighbouring positions are not independent; at least 10 of them must have a loss.
[[nodiscard]] std::optional<paired_difference> difference(std::span<const float> losses,
                                                          std::span<const float> baseline, std::size_t first);

// The losses at the positions where `other` was measured; not a number elsewhere.
[[nodiscard]] std::vector<float> where_measured(std::span<const float> losses, std::span<const float> other);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_SUMMARY_HPP
