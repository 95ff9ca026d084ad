// caches_of_codec: every policy with one codec. The files caches_<codec>.cpp have nothing else in them.
#ifndef KVKEEP_BENCH_CACHES_OF_CODEC_HPP
#define KVKEEP_BENCH_CACHES_OF_CODEC_HPP

#include <cstddef>
#include <memory>
#include <vector>

#include "codec_case.hpp"
#include "filled_cache.hpp"
#include "model_cache.hpp"
#include "policy_cases.hpp"

namespace kvkeep_bench {

template <class CodecCase>
[[nodiscard]] std::vector<cache_kind> caches_of_codec() {
  using codec = typename CodecCase::codec;
  std::vector<cache_kind> out;
  policy_cases::each([&]<class PolicyCase>() {
    out.push_back(
        {.policy = PolicyCase::name,
         .dtype = codec::name,
         .partner = PolicyCase::partner::name,
         .evicts = PolicyCase::evicts,
         .layer_bytes =
             [](const problem& size, std::size_t tokens) {
               const std::size_t block =
                   codec::key_block_bytes(size.head_dim) + codec::value_block_bytes(size.head_dim);
               return tokens * size.kv_heads * block / kvkeep::block_tokens;
             },
         .make = [](const problem& size, std::size_t layers, const call_mode& most) -> std::unique_ptr<model_cache> {
           return std::make_unique<filled_cache<PolicyCase, CodecCase>>(size, layers, most);
         }});
  });
  return out;
}

}  // namespace kvkeep_bench

#endif
