// presets: the list of named policies, the only place that names them all.
#ifndef KVKEEP_POLICY_PRESETS_HPP
#define KVKEEP_POLICY_PRESETS_HPP

#include <variant>

#include "kvkeep/policy/dense.hpp"
#include "kvkeep/policy/inf_llm.hpp"
#include "kvkeep/policy/interval_eviction.hpp"
#include "kvkeep/policy/lm_infinite.hpp"
#include "kvkeep/policy/random_eviction.hpp"
#include "kvkeep/policy/sir_llm.hpp"
#include "kvkeep/policy/sliding_window.hpp"
#include "kvkeep/policy/sparse_patterns.hpp"
#include "kvkeep/policy/streaming_llm.hpp"
#include "kvkeep/policy/unlimiformer.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Any preset, by value. any_policy (policy/spec.hpp) holds one.
using any_preset =
    std::variant<dense, sliding_window, streaming_llm, streaming_llm::published, streaming_llm::settled, lm_infinite,
                 lm_infinite::middle, inf_llm, inf_llm::published, unlimiformer, sir_llm, sir_llm::published,
                 sparse_strided, sparse_fixed, log_sparse_attention, random_eviction, interval_eviction>;

KVKEEP_NAMESPACE_END

#endif
