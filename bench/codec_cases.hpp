// codec_cases: the storage types that are measured.
#ifndef KVKEEP_BENCH_CODEC_CASES_HPP
#define KVKEEP_BENCH_CODEC_CASES_HPP

#include <cstddef>

#include "kvkeep/kvkeep.hpp"

namespace kvkeep_bench {

/// A codec for keys and values, and the error its kernel may make on decoded rows: millionths of the largest value.
template <class Codec, std::size_t Millionths>
struct codec_case {
  using codec = Codec;
  static constexpr double tolerance = static_cast<double>(Millionths) * 1e-6;
};

template <class... Cases>
struct case_list {
  /// Calls f<Case>() for each.
  template <class F>
  static void each(const F& f) {
    (f.template operator()<Cases>(), ...);
  }
};

/// A line a codec.
using codec_cases = case_list<  //
    codec_case<kvkeep::f32, 20>>;

}  // namespace kvkeep_bench

#endif
