#include "model_cache.hpp"

#include <algorithm>

namespace kvkeep_bench {

std::vector<cache_kind> caches_f32();
std::vector<cache_kind> caches_f16();
std::vector<cache_kind> caches_bf16();
std::vector<cache_kind> caches_int8();
std::vector<cache_kind> caches_int4();

const std::vector<cache_kind>& cache_kinds() {
  static const std::vector<cache_kind> kinds = [] {
    std::vector<cache_kind> all;
    for (const auto& some : {caches_f32(), caches_f16(), caches_bf16(), caches_int8(), caches_int4()}) {
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }();
  return kinds;
}

const cache_kind& cache_kind_of(std::string_view policy, std::string_view dtype) {
  const auto& kinds = cache_kinds();
  return *std::find_if(kinds.begin(), kinds.end(),
                       [&](const cache_kind& k) { return k.policy == policy && k.dtype == dtype; });
}

}  // namespace kvkeep_bench
