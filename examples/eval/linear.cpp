#include "linear.hpp"

#include <algorithm>
#include <cstddef>

namespace kvkeep_eval {

namespace {

constexpr Eigen::Index block_columns = 128;   // of the output; what one thread computes at a time
constexpr Eigen::Index least_work = 1 << 20;  // products of two numbers; for fewer, waking a thread takes longer

Eigen::Index blocks_of(const matrix& weights) noexcept { return (weights.rows() + block_columns - 1) / block_columns; }

// Columns [first, first + count) of one linear layer.
void apply_columns(const matrix& x, const linear& layer, Eigen::Index first, Eigen::Index count) {
  const auto weights = layer.weights.middleRows(first, count);
  if (x.rows() == 1) {  // Eigen's product of a row-major matrix and a vector
    auto out = layer.out.row(0).segment(first, count).transpose();
    if (layer.add) {
      out.noalias() += weights * x.row(0).transpose();
    } else {
      out.noalias() = weights * x.row(0).transpose();
    }
    return;
  }
  auto out = layer.out.middleCols(first, count);
  if (layer.add) {
    out.noalias() += x * weights.transpose();
  } else {
    out.noalias() = x * weights.transpose();
  }
}

void apply_block(const matrix& x, const linear& layer, Eigen::Index block) {
  const Eigen::Index first = block * block_columns;
  apply_columns(x, layer, first, std::min(block_columns, layer.weights.rows() - first));
}

// Runs the tasks on the pool, or on the caller's thread if `work` is not worth waking the others.
template <class Task>
void run(const worker_pool& pool, Eigen::Index work, Eigen::Index count, const Task& task) {
  if (pool.threads() == 1 || work < least_work) {
    for (Eigen::Index i = 0; i < count; ++i) {
      task(i);
    }
    return;
  }
  pool.run(static_cast<std::size_t>(count), [&](std::size_t i) { task(index(i)); });
}

}  // namespace

void apply(const worker_pool& pool, const matrix& x, std::initializer_list<linear> layers) {
  Eigen::Index blocks = 0;
  Eigen::Index work = 0;
  for (const linear& layer : layers) {
    blocks += blocks_of(layer.weights);
    work += x.rows() * layer.weights.size();
  }
  run(pool, work, blocks, [&](Eigen::Index block) {
    const linear* layer = layers.begin();
    while (block >= blocks_of(layer->weights)) {
      block -= blocks_of(layer->weights);
      ++layer;
    }
    apply_block(x, *layer, block);
  });
}

void apply_swiglu(const worker_pool& pool, const matrix& x, const matrix& gate, const matrix& up, matrix& out,
                  matrix& scratch) {
  scratch.resize(out.rows(), out.cols());
  run(pool, 2 * x.rows() * gate.size(), blocks_of(gate), [&](Eigen::Index block) {
    apply_block(x, {.weights = gate, .out = out}, block);
    apply_block(x, {.weights = up, .out = scratch}, block);
    const Eigen::Index first = block * block_columns;
    const Eigen::Index count = std::min(block_columns, out.cols() - first);
    auto gated = out.middleCols(first, count).array();
    gated = gated / (1.0F + (-gated).exp()) * scratch.middleCols(first, count).array();
  });
}

}  // namespace kvkeep_eval
