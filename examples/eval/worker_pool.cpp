#include "worker_pool.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <utility>

namespace kvkeep_eval {

namespace {

kvkeep::thread_executor start(std::size_t threads) {
  if (threads == 0 || threads > most_threads) {
    throw failure(fmt::format("threads is {}; it must be from 1 to {}", threads, most_threads));
  }
  auto made = kvkeep::thread_executor::try_make(threads);
  if (!made) {
    throw failure(made.error().what());
  }
  return *std::move(made);
}

}  // namespace

worker_pool::worker_pool(std::size_t threads) : threads_(start(threads)) {}

void worker_pool::run(std::size_t count, const std::function<void(std::size_t)>& task) const {
  const auto work = [&](std::size_t i, std::size_t) { task(i); };
  threads_.run(count, work);
}

}  // namespace kvkeep_eval
