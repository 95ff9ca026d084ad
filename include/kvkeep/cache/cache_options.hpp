// cache_options: how a cache is built.
#ifndef KVKEEP_CACHE_CACHE_OPTIONS_HPP
#define KVKEEP_CACHE_CACHE_OPTIONS_HPP

#include <cstddef>
#include <vector>

#include "kvkeep/cache/plan.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/memory/unit_tiers.hpp"
#include "kvkeep/position/encoding.hpp"

KVKEEP_NAMESPACE_BEGIN

/// How a cache is built.
struct cache_options {
  position_encoding positions = rope{};  ///< how the model tells where tokens stand
  std::size_t max_step = 512;            ///< tokens of one step at most, 1 .. 2^20; inside the promised bytes
  position first_position = 0;           ///< stream position of the first token, 0 .. 2^53 - 1
  float scale = 0.0F;                    ///< on q . k, > 0; 0: 1 / sqrt(head_dim)
  float softcap = 0.0F;                  ///< scores become softcap * tanh(score / softcap), > 0; 0: none
  std::vector<float>
      sink_logits{};        ///< a logit per query head that takes part in the softmax and has no value; empty: none
  std::size_t workers = 1;  ///< workers of the executors that attend may be given, 1 .. 1024: working memory for each
  std::size_t key_parts =
      1;  ///< parts into which the keys of a query are cut, to be attended at once and merged, 1 .. 1024;
          ///< outputs depend on it in their last bits, never on the number of workers
  std::size_t max_shortened =
      0;                    ///< tokens of a step begun with may_shorten, where attention decides what the policy does:
                            ///< its queries are kept until commit, 0 .. max_step; 0 where it does not
  unit_tiers tiers{};       ///< where memory units lie, of policies that retrieve them
  drop_listener on_drop{};  ///< told what was dropped and why
};

KVKEEP_NAMESPACE_END

#endif
