// kvkeep: KV-cache eviction and retrieval policies for transformer inference on CPUs. The umbrella: includes only.
#ifndef KVKEEP_KVKEEP_HPP
#define KVKEEP_KVKEEP_HPP

#include "kvkeep/attention/attend.hpp"
#include "kvkeep/attention/reference.hpp"
#include "kvkeep/attention/softmax_state.hpp"
#include "kvkeep/cache/any_cache.hpp"
#include "kvkeep/cache/cache.hpp"
#include "kvkeep/cache/planner.hpp"
#include "kvkeep/codec/f32.hpp"
#include "kvkeep/core/config.hpp"
#include "kvkeep/core/error.hpp"
#include "kvkeep/core/key_source.hpp"
#include "kvkeep/core/result.hpp"
#include "kvkeep/core/tensor.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/presets.hpp"
#include "kvkeep/policy/retain/keep.hpp"
#include "kvkeep/policy/retain/keep_all.hpp"
#include "kvkeep/policy/retain/pinned.hpp"
#include "kvkeep/policy/retain/recent.hpp"
#include "kvkeep/policy/retain/sinks.hpp"
#include "kvkeep/policy/select/read_all.hpp"
#include "kvkeep/policy/spec.hpp"
#include "kvkeep/position/distance.hpp"
#include "kvkeep/position/encoding.hpp"
#include "kvkeep/position/rope_frequencies.hpp"
#include "kvkeep/position/rotate.hpp"
#include "kvkeep/storage/kv_store.hpp"

#endif
