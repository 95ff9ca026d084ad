// attention_sizes: what the attention of a cache is built for.
#ifndef KVKEEP_CACHE_ATTENTION_SIZES_HPP
#define KVKEEP_CACHE_ATTENTION_SIZES_HPP

#include <cstddef>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// What a layer_attention is built for.
struct attention_sizes {
  model_shape shape;
  std::size_t max_step = 1;
  std::size_t pairs = 0;        // of components that are turned; 0: no RoPE
  std::size_t near = 0;         // distances whose angles are tabled, where keys are turned
  std::size_t blocks = 0;       // of storage
  std::size_t most_spans = 0;   // of one view, at most
  std::size_t workers = 1;      // threads that may come
  std::size_t key_parts = 1;    // parts into which the keys of a query are cut
  std::size_t sink_logits = 0;  // query_heads or 0
  bool turns_keys = false;      // keys are stored raw and have a distance each
  bool both = false;            // keys are stored turned and raw
  bool applied = false;         // rows come rotated at their stream position
  bool alibi = false;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
