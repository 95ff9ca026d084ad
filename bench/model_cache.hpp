// model_cache: a cache of several layers in the state in which a long stream leaves it, whatever its policy and codec.
#ifndef KVKEEP_BENCH_MODEL_CACHE_HPP
#define KVKEEP_BENCH_MODEL_CACHE_HPP

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "problem.hpp"

namespace kvkeep_bench {

/// How a layer is attended.
struct call_mode {
  std::size_t threads = 1;
  bool mass = false;  ///< attention mass is gathered
};

/// All calls throw where the library returns an error.
class model_cache {
 public:
  model_cache() = default;
  model_cache(const model_cache&) = delete;
  model_cache(model_cache&&) = delete;
  model_cache& operator=(const model_cache&) = delete;
  model_cache& operator=(model_cache&&) = delete;
  virtual ~model_cache() = default;

  [[nodiscard]] virtual std::size_t layers() const noexcept = 0;
  /// Opens a step of the problem's queries.
  virtual void begin() = 0;
  /// One layer of an open step.
  virtual void attend(std::size_t layer, const call_mode& how) = 0;
  virtual void commit() = 0;
  /// Closes an open step as if it had not been.
  virtual void leave() = 0;

  /// Tokens that the open step reads, by any of its queries.
  [[nodiscard]] virtual std::size_t tokens_read() = 0;
  /// Compares what a layer of the open step just gave with attention in double: some heads of the first and the last query,
  /// and the mass of a kv head. Empty, or what is wrong.
  [[nodiscard]] virtual std::string verify(std::size_t layer, const call_mode& how) = 0;

  // One eviction and one insertion in all layers without attention: the three in this order, no step being open.

  virtual void plan_token() = 0;
  virtual void write_token() = 0;
  virtual void settle_token() = 0;
};

/// A policy with a codec.
struct cache_kind {
  std::string_view policy{};
  std::string_view dtype{};
  std::string_view partner{};  ///< the policy that it is compared with; its own name: none
  bool evicts = false;         ///< whether every token that comes makes another one leave
  /// Bytes of keys and values of so many tokens in one layer.
  std::size_t (*layer_bytes)(const problem& size, std::size_t tokens) = nullptr;
  /// A cache of so many layers that may be attended in the mode `most` and in less.
  std::unique_ptr<model_cache> (*make)(const problem& size, std::size_t layers, const call_mode& most) = nullptr;
};

/// All of them, by codec. Each codec's kernels are in a file of their own, caches_<codec>.cpp.
[[nodiscard]] const std::vector<cache_kind>& cache_kinds();
/// The one of these names, which must exist.
[[nodiscard]] const cache_kind& cache_kind_of(std::string_view policy, std::string_view dtype);

}  // namespace kvkeep_bench

#endif
