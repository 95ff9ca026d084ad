#include "caches_of_codec.hpp"

namespace kvkeep_bench {

std::vector<cache_kind> caches_f32() { return caches_of_codec<codec_case<kvkeep::f32, 20>>(); }

}  // namespace kvkeep_bench
