// Linear layers split over threads: right, and the same bits whatever the number of threads.
#include "linear.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <vector>

#include "matrix.hpp"
#include "support.hpp"
#include "worker_pool.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::matrix;
using kvkeep_eval::worker_pool;

matrix waves(Eigen::Index rows, Eigen::Index columns, float speed) {
  matrix out(rows, columns);
  for (Eigen::Index i = 0; i < out.size(); ++i) out(i) = std::sin(speed * static_cast<float>(i % 9973));
  return out;
}

// [tokens, outputs] in double precision.
Eigen::MatrixXd product(const matrix& x, const matrix& weights) {
  return x.cast<double>() * weights.cast<double>().transpose();
}

void expect_near(const matrix& out, const Eigen::MatrixXd& expected) {
  EXPECT_LT((out.cast<double>() - expected).cwiseAbs().maxCoeff(), 1e-3);
}

// One row, few rows and many; outputs that fill no block, blocks and a rest.
constexpr std::array<std::array<Eigen::Index, 3>, 5> shapes{
    {{1, 1100, 1025}, {1, 40, 7}, {3, 900, 513}, {130, 64, 300}, {512, 33, 129}}};

TEST(Linear, ProductsAreRightOnAnyNumberOfThreads) {
  for (const auto& [rows, inputs, outputs] : shapes) {
    SCOPED_TRACE(testing::Message() << rows << " x " << inputs << " x " << outputs);
    const matrix x = waves(rows, inputs, 0.3F);
    const matrix first = waves(outputs, inputs, 0.7F);
    const matrix second = waves(outputs + 3, inputs, 1.1F);
    const matrix start = waves(rows, outputs + 3, 0.01F);
    std::vector<matrix> earlier;
    for (const std::size_t threads : {1U, 2U, 5U}) {
      const worker_pool pool(threads);
      matrix out(rows, outputs);
      matrix sum = start;
      apply(pool, x, {{.weights = first, .out = out}, {.weights = second, .out = sum, .add = true}});
      expect_near(out, product(x, first));
      expect_near(sum, product(x, second) + start.cast<double>());
      if (!earlier.empty()) {
        EXPECT_EQ(out, earlier[0]);
        EXPECT_EQ(sum, earlier[1]);
      }
      earlier = {out, sum};
    }
  }
}

TEST(Linear, SwigluIsRightOnAnyNumberOfThreads) {
  for (const auto& [rows, inputs, outputs] : shapes) {
    SCOPED_TRACE(testing::Message() << rows << " x " << inputs << " x " << outputs);
    const matrix x = waves(rows, inputs, 0.3F);
    const matrix gate = waves(outputs, inputs, 0.7F) / std::sqrt(static_cast<float>(inputs));
    const matrix up = waves(outputs, inputs, 1.1F) / std::sqrt(static_cast<float>(inputs));
    const Eigen::ArrayXXd a = product(x, gate).array();
    const Eigen::MatrixXd expected = (a / (1.0 + (-a).exp()) * product(x, up).array()).matrix();
    matrix earlier;
    for (const std::size_t threads : {1U, 2U, 5U}) {
      matrix out(rows, outputs);
      matrix scratch;
      apply_swiglu(worker_pool(threads), x, gate, up, out, scratch);
      expect_near(out, expected);
      if (earlier.size() > 0) EXPECT_EQ(out, earlier);
      earlier = out;
    }
  }
}

TEST(WorkerPool, RunsEveryTaskOnce) {
  for (const std::size_t threads : {1U, 2U, 7U}) {
    const worker_pool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const std::size_t count : {0U, 1U, 2U, 5U, 1000U}) {
      std::vector<std::atomic<int>> calls(count + 1);
      for (int round = 0; round < 3; ++round) pool.run(count, [&](std::size_t i) { ++calls[i]; });
      for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(calls[i], 3) << i << " of " << count;
      EXPECT_EQ(calls[count], 0);
    }
  }
}

TEST(WorkerPool, NumbersOfThreadsOutOfRange) {
  for (const std::size_t threads : {std::size_t{0}, std::size_t{1025}, ~std::size_t{0}}) {
    expect_failure([&] { static_cast<void>(worker_pool(threads)); },
                   {"threads is " + std::to_string(threads) + "; it must be from 1 to 1024"});
  }
}

}  // namespace
}  // namespace kvkeep_eval_test
