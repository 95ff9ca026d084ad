#include "worker_pool.hpp"

#include "failure.hpp"

#include <fmt/format.h>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <algorithm>
#include <atomic>

namespace kvkeep_eval {

worker_pool::worker_pool(std::size_t threads) : threads_(threads) {
  if (threads == 0 || threads > most_threads) {
    throw failure(fmt::format("threads is {}; it must be from 1 to {}", threads, most_threads));
  }
  if (threads > 1) {
    others_ = std::make_unique<Eigen::ThreadPool>(static_cast<int>(threads - 1));
  }
}

worker_pool::worker_pool(worker_pool&&) noexcept = default;
worker_pool& worker_pool::operator=(worker_pool&&) noexcept = default;
worker_pool::~worker_pool() = default;

void worker_pool::run(std::size_t count, const std::function<void(std::size_t)>& task) const {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      task(i);
    }
  };
  const std::size_t helpers = std::min(threads_, std::max<std::size_t>(count, 1)) - 1;
  Eigen::Barrier helped(static_cast<unsigned>(helpers));
  for (std::size_t i = 0; i < helpers; ++i) {
    others_->Schedule([&] {
      work();
      helped.Notify();
    });
  }
  work();
  helped.Wait();
}

}  // namespace kvkeep_eval
