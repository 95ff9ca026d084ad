// Executors: every task once, one task a worker at a time, errors; any of them behind executor_ref.
#include "kvkeep/core/executor.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kvkeep/core/thread_executor.hpp"

namespace kvkeep_test {
namespace {

/// A function of tasks that remembers how often each was done and whether two shared a worker.
struct witness {
  std::vector<std::atomic<int>> done;
  std::vector<std::atomic<int>> working;
  std::atomic<bool> out_of_range{false};
  std::atomic<bool> shared{false};

  witness(std::size_t tasks, std::size_t workers) : done(tasks), working(workers) {}
  void operator()(std::size_t task, std::size_t worker) {
    if (task >= done.size() || worker >= working.size()) {
      out_of_range = true;
      return;
    }
    if (working[worker]++ != 0) shared = true;
    if (task % 7 == 0) std::this_thread::yield();  // so that others may come between
    ++done[task];
    --working[worker];
  }
  void check() const {
    EXPECT_FALSE(out_of_range) << "a task or worker beyond what there is";
    EXPECT_FALSE(shared) << "two tasks at once with one worker";
    for (std::size_t task = 0; task < done.size(); ++task) EXPECT_EQ(done[task], 1) << "task " << task;
  }
};

constexpr std::size_t task_counts[] = {0, 1, 2, 100};

TEST(SerialExecutor, RunsTasksInOrder) {
  std::vector<std::size_t> order;
  auto note = [&](std::size_t task, std::size_t worker) {
    EXPECT_EQ(worker, 0U);
    order.push_back(task);
  };
  kvkeep::serial_executor::run(3, note);
  kvkeep::serial_executor::run(0, note);
  EXPECT_EQ(order, (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_EQ(kvkeep::serial_executor::workers(), 1U);
}

TEST(ThreadExecutor, RunsEveryTaskOnce) {
  for (const std::size_t threads : {std::size_t{1}, std::size_t{2}, std::size_t{5}}) {
    kvkeep::thread_executor executor(threads);
    ASSERT_EQ(executor.workers(), threads);
    for (const std::size_t tasks : task_counts) {
      SCOPED_TRACE(std::to_string(tasks) + " tasks on " + std::to_string(threads));
      witness seen(tasks, threads);
      executor.run(tasks, seen);
      seen.check();
    }
  }
}

TEST(ThreadExecutor, RunsRoundAfterRound) {
  // What tasks of one round write without a lock, tasks of the next read: run() returns when all is done and seen.
  kvkeep::thread_executor executor(3);
  std::vector<std::size_t> value(40, 0);
  std::vector<std::size_t> next(40, 0);
  for (std::size_t round = 0; round < 3000; ++round) {
    auto work = [&](std::size_t task, std::size_t) { next[task] = value[(task + 1) % 40] + 1; };
    executor.run(40, work);
    value.swap(next);
    ASSERT_EQ(value, std::vector<std::size_t>(40, round + 1));
  }
}

TEST(ThreadExecutor, UsesItsThreads) {
  // Tasks that wait for each other: only done if each has a thread of its own.
  kvkeep::thread_executor executor(4);
  std::atomic<std::size_t> arrived{0};
  std::atomic<bool> alone{false};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  auto meet = [&](std::size_t, std::size_t) {
    ++arrived;
    while (arrived < 4 && !alone) {
      std::this_thread::yield();
      if (std::chrono::steady_clock::now() > end) alone = true;
    }
  };
  executor.run(4, meet);
  EXPECT_FALSE(alone);
}

TEST(ThreadExecutor, WorkerZeroIsTheCaller) {
  kvkeep::thread_executor executor(3);
  const std::thread::id caller = std::this_thread::get_id();
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> wrong{0};
    auto compare = [&](std::size_t, std::size_t worker) {
      if ((worker == 0) != (std::this_thread::get_id() == caller)) ++wrong;
    };
    executor.run(20, compare);
    EXPECT_EQ(wrong, 0);
  }
}

TEST(ThreadExecutor, Moves) {
  kvkeep::thread_executor first(3);
  kvkeep::thread_executor second(std::move(first));
  EXPECT_EQ(second.workers(), 3U);
  witness seen(50, 3);
  second.run(50, seen);
  seen.check();
  kvkeep::thread_executor third(2);
  third = std::move(second);  // the two threads it had end
  EXPECT_EQ(third.workers(), 3U);
  witness again(50, 3);
  third.run(50, again);
  again.check();
}

TEST(ThreadExecutor, ComesAndGoes) {
  for (int i = 0; i < 200; ++i) {
    kvkeep::thread_executor executor(1 + static_cast<std::size_t>(i % 4));
    if (i % 3 == 0) continue;  // without having worked
    witness seen(9, executor.workers());
    executor.run(9, seen);
    seen.check();
  }
}

TEST(ThreadExecutor, NamesWhatIsWrong) {
  for (const std::size_t threads : {std::size_t{0}, std::size_t{1025}, static_cast<std::size_t>(-1)}) {
    const auto made = kvkeep::thread_executor::try_make(threads);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code(), kvkeep::errc::invalid_argument);
    EXPECT_EQ(made.error().argument(), "threads");
    EXPECT_EQ(made.error().message(), "kvkeep: threads = " + std::to_string(threads) + "; allowed: 1 .. 1024");
    EXPECT_THROW(kvkeep::thread_executor{threads}, kvkeep::error);
  }
}

/// A user's executor: the last task first.
struct backwards {
  std::size_t runs = 0;
  [[nodiscard]] std::size_t workers() const { return 2; }
  void run(std::size_t tasks, kvkeep::task_ref f) {
    ++runs;
    for (std::size_t task = tasks; task-- > 0;) f(task, task % 2);
  }
};

static_assert(kvkeep::executor<backwards> && kvkeep::executor<kvkeep::thread_executor> &&
              kvkeep::executor<kvkeep::serial_executor> && kvkeep::executor<const kvkeep::serial_executor>);
static_assert(!kvkeep::executor<const backwards> && !kvkeep::executor<int>);
static_assert(!std::is_constructible_v<kvkeep::executor_ref, backwards>, "a temporary would be gone too soon");

TEST(ExecutorRef, IsSerialByDefault) {
  const kvkeep::executor_ref serial;
  EXPECT_EQ(serial.workers(), 1U);
  witness seen(10, 1);
  serial.run(10, seen);
  seen.check();
}

TEST(ExecutorRef, RefersToAnyExecutor) {
  backwards mine;
  const kvkeep::executor_ref reference(mine);
  const kvkeep::executor_ref copy(reference);
  EXPECT_EQ(copy.workers(), 2U);
  std::vector<std::size_t> order;
  auto note = [&](std::size_t task, std::size_t) { order.push_back(task); };
  reference.run(3, note);
  copy.run(2, note);
  EXPECT_EQ(order, (std::vector<std::size_t>{2, 1, 0, 1, 0}));
  EXPECT_EQ(mine.runs, 2U);

  const kvkeep::serial_executor constant;  // one that run() does not change
  const kvkeep::executor_ref unchanging(constant);
  witness seen(4, 1);
  unchanging.run(4, seen);
  seen.check();

  const auto constant_task = [&](std::size_t task, std::size_t) { order.push_back(task + 10); };
  unchanging.run(1, constant_task);
  EXPECT_EQ(order.back(), 10U);
}

}  // namespace
}  // namespace kvkeep_test
