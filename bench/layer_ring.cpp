#include "layer_ring.hpp"

#include <algorithm>

#include "cold_pool.hpp"

namespace kvkeep_bench {
namespace {

/// As many layers as make them cold, and four where that is no more than 2 GiB.
std::size_t cold_layers(const cache_kind& kind, const problem& size) {
  const std::size_t bytes = kind.layer_bytes(size, size.tokens);
  return std::max(cold_bytes / bytes + 1, std::min<std::size_t>(4, (std::size_t{2} << 30) / bytes));
}

}  // namespace

layer_ring::layer_ring(const cache_kind& kind, const problem& size, const call_mode& most, bool cold, call_log& log)
    : cache_(kind.make(size, cold ? cold_layers(kind, size) : std::min<std::size_t>(2, cold_layers(kind, size)), most)),
      log_(log) {
  begin();
  bytes_ = static_cast<double>(kind.layer_bytes(size, cache_->tokens_read()));
  begin();
}

double layer_ring::run(const call_mode& how, std::size_t clock_threads) {
  if (layer_ == cache_->layers()) begin();
  const double seconds = timed(clock_threads, [&] { cache_->attend(layer_, how); });
  ++layer_;
  return seconds;
}

std::string layer_ring::verify(const call_mode& how) {
  begin();
  cache_->attend(cache_->layers() - 1, how);
  std::string wrong = cache_->verify(cache_->layers() - 1, how);
  begin();
  return wrong;
}

void layer_ring::begin() {
  cache_->leave();
  log_.begin_seconds.push_back(timed(1, [&] { cache_->begin(); }));
  layer_ = 0;
}

}  // namespace kvkeep_bench
