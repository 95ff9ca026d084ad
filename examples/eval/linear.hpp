#ifndef KVKEEP_EVAL_LINEAR_HPP
#define KVKEEP_EVAL_LINEAR_HPP

#include "matrix.hpp"
#include "worker_pool.hpp"

#include <initializer_list>

namespace kvkeep_eval {

// One linear layer to apply: out = x * weights^T, or added to out.
struct linear {
  const matrix& weights;  // [outputs, inputs]
  matrix& out;            // [tokens, outputs]
  bool add = false;
};

// Applies all layers to the same `x`, [tokens, inputs], which must be none of the outputs. The outputs are split at the
// same columns whatever the number of threads, so that it does not change a bit of them.
void apply(const worker_pool& pool, const matrix& x, std::initializer_list<linear> layers);

// SwiGLU of two layers of one shape: out = silu(x * gate^T) * (x * up^T), [tokens, outputs]. `scratch` gets out's shape.
void apply_swiglu(const worker_pool& pool, const matrix& x, const matrix& gate, const matrix& up, matrix& out,
                  matrix& scratch);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_LINEAR_HPP
