// codec_case: a storage type that is measured.
#ifndef KVKEEP_BENCH_CODEC_CASE_HPP
#define KVKEEP_BENCH_CODEC_CASE_HPP

#include <cstddef>

#include "kvkeep/kvkeep.hpp"

namespace kvkeep_bench {

/// A codec for keys and values, and the error its kernel may make on decoded rows: millionths of the largest value.
template <class Codec, std::size_t Millionths>
struct codec_case {
  using codec = Codec;
  static constexpr double tolerance = static_cast<double>(Millionths) * 1e-6;
};

}  // namespace kvkeep_bench

#endif
