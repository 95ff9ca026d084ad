#include "caches_of_codec.hpp"

namespace kvkeep_bench {

std::vector<cache_kind> caches_int8() { return caches_of_codec<codec_case<kvkeep::int8, 20>>(); }

}  // namespace kvkeep_bench
