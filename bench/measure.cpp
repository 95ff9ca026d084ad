#include "measure.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

bool failed = false;

std::vector<double> ratios(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> out(above.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = above[i] / below[i];
  return out;
}

/// One who takes part, with the seconds of its calls.
struct runner {
  contender* who = nullptr;
  std::size_t every = 1;        // it runs in every so many rounds
  std::vector<double> seconds;  // of its rounds
  std::vector<double> subject;  // what the row's subject took in the same rounds
};

}  // namespace

void fail(benchmark::State& state, const std::string& why) {
  failed = true;
  state.SkipWithError(why.c_str());
}

bool any_failed() { return failed; }

void measure(benchmark::State& state, const line_up& who, const effort& how_long) {
  if (const std::string wrong = who.subject->verify(); !wrong.empty()) return fail(state, wrong);

  std::vector<runner> runners;
  const auto take_part = [&](contender* each) {
    if (each != nullptr && each != who.subject) runners.push_back({each, 1, {}, {}});
  };
  take_part(who.partner);
  take_part(who.read_limit);
  take_part(who.eigen);

  // A first round warms up and tells how many others there is time for.
  double round = who.subject->run();
  double eigen = 0.0;
  for (runner& r : runners) (r.who == who.eigen ? eigen : round) += r.who->run();
  constexpr double longest = 20.0;  // seconds that the wish for many pairs may cost
  const double least = std::clamp(longest / round, 3.0, 30.0);
  const double wanted = std::clamp(how_long.seconds / 2.0 / round, least, 2000.0);
  const auto rounds = static_cast<std::size_t>(wanted);
  for (runner& r : runners) {
    if (r.who == who.eigen)
      r.every = std::clamp<std::size_t>(static_cast<std::size_t>(eigen / round), 1, rounds / 5 + 1);
  }

  for (auto _ : state) {
    state.PauseTiming();
    std::vector<double> subject;
    for (std::size_t i = 0; i < rounds; ++i) {
      // Whoever comes first in a round comes last in the next.
      std::vector<double> seconds(runners.size() + 1, 0.0);
      for (std::size_t turn = 0; turn <= runners.size(); ++turn) {
        const std::size_t at = (turn + i) % (runners.size() + 1);
        if (at == runners.size()) {
          seconds[at] = who.subject->run();
        } else if (i % runners[at].every == 0) {
          seconds[at] = runners[at].who->run();
        }
      }
      subject.push_back(seconds.back());
      for (std::size_t r = 0; r < runners.size(); ++r) {
        if (i % runners[r].every != 0) continue;
        runners[r].seconds.push_back(seconds[r]);
        runners[r].subject.push_back(seconds.back());
      }
    }
    state.SetIterationTime(median(subject));
    state.counters["median_us"] = 1e6 * median(subject);
    state.counters["spread"] = spread(subject);
    state.counters["gb_per_s"] = 1e-9 * who.bytes / median(subject);
    state.counters["pairs"] = static_cast<double>(rounds);
    if (who.subject == who.read_limit) state.counters["read_limit_fraction"] = 1.0;
    if (who.subject == who.eigen) state.counters["ratio_to_eigen"] = 1.0;
    for (const runner& r : runners) {
      if (r.who == who.read_limit) {
        state.counters["read_limit_fraction"] = median(ratios(r.seconds, r.subject));
        state.counters["read_limit_gb_per_s"] = 1e-9 * who.bytes / median(r.seconds);
      }
      if (r.who == who.eigen) state.counters["ratio_to_eigen"] = median(ratios(r.seconds, r.subject));
      if (r.who == who.partner) {
        const std::vector<double> each = ratios(r.subject, r.seconds);
        const interval certain = median_interval(each);
        const std::string name = "ratio_to_" + std::string(who.partner_name);
        state.counters[name] = median(each);
        state.counters[name + "_low"] = certain.low;
        state.counters[name + "_high"] = certain.high;
      }
    }
    state.ResumeTiming();
    who.subject->run();  // for the column of processor time
  }
}

}  // namespace kvkeep_bench
