#include "read_limit.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <span>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "clock.hpp"
#include "cold_pool.hpp"
#include "kvkeep/detail/simd.hpp"
#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

using kvkeep::detail::prefetch;
using kvkeep::detail::vec_bits;

constexpr std::size_t line = 64;
constexpr std::size_t page = 4096;
constexpr std::size_t accumulators = 8;

/// What was read, so that no compiler leaves the reading out.
using sums = std::array<vec_bits, accumulators>;

/// Adds `count` bytes, a multiple of 8 vectors, to the sums.
inline void take(const std::byte* from, std::size_t count, sums& into) {
  for (std::size_t i = 0; i < count; i += accumulators * sizeof(vec_bits)) {
    for (std::size_t a = 0; a < accumulators; ++a) {
      into[a] ^= kvkeep::detail::load<vec_bits>(from + i + a * sizeof(vec_bits));
    }
  }
}

/// One stream, as a plain loop reads it.
void read_plain(const std::byte* from, std::size_t bytes, sums& into) { take(from, bytes, into); }

/// `Streams` streams side by side, `Turn` bytes of each in turn, fetched `Ahead` bytes ahead.
template <std::size_t Streams, std::size_t Turn, std::size_t Ahead>
void read_streams(const std::byte* from, std::size_t bytes, sums& into) {
  const std::size_t stream = bytes / Streams / Turn * Turn;
  for (std::size_t at = 0; at < stream; at += Turn) {
    for (std::size_t s = 0; s < Streams; ++s) {
      const std::byte* const here = from + s * stream + at;
      if constexpr (Ahead > 0) {
        for (std::size_t l = 0; l < Turn; l += line) prefetch(here + Ahead + l);
      }
      for (std::size_t l = 0; l < Turn; l += sizeof(vec_bits)) {
        into[l / sizeof(vec_bits) % accumulators] ^= kvkeep::detail::load<vec_bits>(here + l);
      }
    }
  }
  take(from + Streams * stream, (bytes - Streams * stream) / page * page, into);
}

/// One stream, while the next `Pages` pages are fetched a line of each in turn.
template <std::size_t Pages>
void read_pages_ahead(const std::byte* from, std::size_t bytes, sums& into) {
  constexpr std::size_t window = Pages * page;
  for (std::size_t at = 0; at + window <= bytes; at += window) {
    for (std::size_t l = 0; l < window / line; ++l) {
      prefetch(from + at + window + l % Pages * page + l / Pages * line);
      for (std::size_t b = 0; b < line; b += sizeof(vec_bits)) {
        into[(l * line + b) / sizeof(vec_bits) % accumulators] ^=
            kvkeep::detail::load<vec_bits>(from + at + l * line + b);
      }
    }
  }
  const std::size_t done = bytes / window * window;
  take(from + done, (bytes - done) / page * page, into);
}

struct access_pattern {
  std::string_view name;
  void (*read)(const std::byte* from, std::size_t bytes, sums& into);
};

constexpr std::array<access_pattern, 6> patterns{{
    {"plain loop", read_plain},
    {"8 streams, 256 bytes in turn, 2 KiB ahead", read_streams<8, 256, 2048>},
    {"4 streams, 256 bytes in turn, 2 KiB ahead", read_streams<4, 256, 2048>},
    {"8 streams, 256 bytes in turn", read_streams<8, 256, 0>},
    {"8 pages ahead, a line of each in turn", read_pages_ahead<8>},
    {"4 pages ahead, a line of each in turn", read_pages_ahead<4>},
}};

void read_part(std::size_t pattern, std::span<const float> part) {
  sums into{};
  patterns[pattern].read(reinterpret_cast<const std::byte*>(part.data()), part.size_bytes(), into);
  benchmark::DoNotOptimize(into);
}

}  // namespace

/// Reads its half when it is told. Waits for a moment awake, then asleep.
class read_limit::second_thread {
 public:
  second_thread() : thread_([this] { work(); }) {}
  second_thread(const second_thread&) = delete;
  second_thread(second_thread&&) = delete;
  second_thread& operator=(const second_thread&) = delete;
  second_thread& operator=(second_thread&&) = delete;
  ~second_thread() {
    stop_ = true;
    start({}, 0);
    thread_.join();
  }

  void start(std::span<const float> part, std::size_t pattern) {
    part_ = part;
    pattern_ = pattern;
    ++asked_;
    asked_.notify_one();
  }
  void finish() { wait(done_, asked_.load() - 1); }

 private:
  /// Until `value` is no longer `old`.
  static void wait(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
    for (int i = 0; i < 20000 && value.load() == old; ++i) std::this_thread::yield();
    value.wait(old);
  }
  void work() {
    for (std::uint32_t seen = 0;; ++seen) {
      wait(asked_, seen);
      if (stop_) return;
      read_part(pattern_, part_);
      ++done_;
      done_.notify_one();
    }
  }

  std::span<const float> part_;
  std::size_t pattern_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint32_t> asked_ = 0;
  std::atomic<std::uint32_t> done_ = 0;
  std::thread thread_;  // last: starts when the others are there
};

read_limit::read_limit(std::size_t bytes, std::size_t threads) : bytes_(bytes), threads_(threads) {
  if (threads > 1) helper_ = std::make_unique<second_thread>();
  constexpr std::size_t tries = 15;
  std::array<std::vector<double>, patterns.size()> seconds;
  const std::size_t tried = std::min(bytes, std::size_t{64} << 20);
  for (std::size_t i = 0; i < tries; ++i) {
    for (std::size_t p = 0; p < patterns.size(); ++p) seconds[p].push_back(read(p, tried));
  }
  for (std::size_t p = 0; p < patterns.size(); ++p) {
    // By the lower quartile: another job that comes by for a moment must not make a slow pattern look like the limit.
    if (quantile(seconds[p], 0.25) < quantile(seconds[pattern_], 0.25)) pattern_ = p;
  }
}

read_limit::~read_limit() = default;

double read_limit::read(std::size_t pattern, std::size_t bytes) {
  constexpr std::size_t at_once = cold_pool::floats / 2;
  double seconds = 0.0;
  for (std::size_t left = bytes / sizeof(float); left > 0;) {
    const std::size_t count = std::min(left, at_once);
    const std::span<const float> part = cold_pool::instance().next(count);
    left -= count;
    if (threads_ == 1) {
      seconds += timed(1, [&] { read_part(pattern, part); });
    } else {
      const std::size_t half = count / 2 / page * page;
      seconds += timed(threads_, [&] {
        helper_->start(part.first(half), pattern);
        read_part(pattern, part.subspan(half));
        helper_->finish();
      });
    }
  }
  return seconds;
}

double read_limit::run() { return read(pattern_, bytes_); }

std::string_view read_limit::pattern() const noexcept { return patterns[pattern_].name; }

}  // namespace kvkeep_bench
