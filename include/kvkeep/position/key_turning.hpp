// key_turning: how raw keys are turned as they are read, where every key has a distance of its own.
#ifndef KVKEEP_POSITION_KEY_TURNING_HPP
#define KVKEEP_POSITION_KEY_TURNING_HPP

#include <cstddef>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Component step * j and the one `apart` further on make pair j of `pairs`; components from 2 * pairs on are left as they
/// are. Keys are turned backwards by their angles.
struct key_turning {
  const float* angles = nullptr;  ///< [blocks][pairs][2][16]: cosines and sines of the distances of every block's keys
  std::size_t pairs = 0;
  std::size_t step = 1;
  std::size_t apart = 0;

  /// The angles of a block, [pairs][2][16].
  [[nodiscard]] const float* of_block(std::size_t block) const noexcept {
    return angles + block * pairs * 2 * block_tokens;
  }
};

KVKEEP_NAMESPACE_END

#endif
