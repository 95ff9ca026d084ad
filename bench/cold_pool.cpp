#include "cold_pool.hpp"

#include "normal_rows.hpp"

namespace kvkeep_bench {

cold_pool::cold_pool() : memory_(floats) { fill_normal(memory_.floats(), 7); }

cold_pool& cold_pool::instance() {
  static cold_pool pool;
  return pool;
}

std::span<const float> cold_pool::next(std::size_t count) {
  if (at_ + count > floats) at_ = 0;
  const std::span<const float> part = memory_.floats().subspan(at_, count);
  at_ += (count + 15) / 16 * 16;
  return part;
}

}  // namespace kvkeep_bench
