// The three-pass attention of other libraries: scores, softmax, weighted sum. One function a library, each in a file of its
// own; those of libraries that were not found do not exist.
#ifndef KVKEEP_BENCH_RIVAL_KERNELS_HPP
#define KVKEEP_BENCH_RIVAL_KERNELS_HPP

#include <cstddef>

namespace kvkeep_bench {

/// What is to be computed for some kv heads. All arrays are row-major floats.
struct rival_call {
  std::size_t heads = 0;          ///< kv heads
  std::size_t group = 0;          ///< query heads of each
  std::size_t queries = 0;        ///< of each query head
  std::size_t tokens = 0;         ///< every query reads all of them
  std::size_t head_dim = 0;       ///< floats of a row
  float scale = 0.0F;             ///< on scores
  const float* keys = nullptr;    ///< [heads][tokens][head_dim]
  const float* values = nullptr;  ///< [heads][tokens][head_dim]
  const float* q = nullptr;       ///< [heads][group][queries][head_dim]
  float* scores = nullptr;        ///< scratch, [group * queries][tokens]
  float* out = nullptr;           ///< as q
};

using rival_kernel = void (*)(const rival_call&);

/// Eigen as one writes it: a product, array expressions, a product, per query head.
void attend_eigen(const rival_call& call);
/// OpenBLAS: two sgemm per kv head for all its queries; softmax by Eigen.
void attend_openblas(const rival_call& call);
/// libtorch: matmul(softmax(matmul(q, k^T)), v), batched over kv heads.
void attend_libtorch(const rival_call& call);

}  // namespace kvkeep_bench

#endif
