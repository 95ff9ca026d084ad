#include "measure.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

#include <fmt/format.h>

#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

bool failed = false;

std::vector<double> ratios(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> out(above.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = above[i] / below[i];
  return out;
}

/// One who takes part beside the subject, with the seconds of its calls.
struct runner {
  contender* who = nullptr;
  std::size_t every = 1;          // it runs in every so many rounds
  std::vector<double> seconds{};  // of its rounds
  std::vector<double> subject{};  // what the row's subject took in the same rounds
};

/// Runs a round; who comes first in it comes last in the next. The subject's seconds.
double run_round(const line_up& who, std::vector<runner>& others, std::size_t round) {
  std::vector<double> seconds(others.size() + 1, 0.0);
  for (std::size_t turn = 0; turn < seconds.size(); ++turn) {
    const std::size_t at = (turn + round) % seconds.size();
    if (at == others.size()) {
      seconds[at] = who.subject->run();
    } else if (round % others[at].every == 0) {
      seconds[at] = others[at].who->run();
    }
  }
  for (std::size_t i = 0; i < others.size(); ++i) {
    if (round % others[i].every != 0) continue;
    others[i].seconds.push_back(seconds[i]);
    others[i].subject.push_back(seconds.back());
  }
  return seconds.back();
}

void report(benchmark::State& state, const line_up& who, const std::vector<runner>& others,
            const std::vector<double>& subject) {
  auto& counters = state.counters;
  counters["median_us"] = 1e6 * median(subject);
  counters["spread"] = spread(subject);
  counters["gb_per_s"] = 1e-9 * who.bytes / median(subject);
  counters["pairs"] = static_cast<double>(subject.size());
  if (who.subject == who.read_limit) counters["read_limit_fraction"] = 1.0;
  for (const baseline& b : who.baselines) {
    if (b.who == who.subject) counters["ratio_to_" + std::string(b.name)] = 1.0;
  }
  for (const runner& r : others) {
    if (r.who == who.read_limit) {
      counters["read_limit_fraction"] = median(ratios(r.seconds, r.subject));
      counters["read_limit_gb_per_s"] = 1e-9 * who.bytes / median(r.seconds);
    }
    for (const baseline& b : who.baselines) {
      if (r.who == b.who) counters["ratio_to_" + std::string(b.name)] = median(ratios(r.seconds, r.subject));
    }
    if (r.who == who.partner) {
      const std::vector<double> each = ratios(r.subject, r.seconds);
      const interval certain = median_interval(each);
      const std::string name = "ratio_to_" + std::string(who.partner_name);
      counters[name] = median(each);
      counters[name + "_low"] = certain.low;
      counters[name + "_high"] = certain.high;
    }
  }
}

}  // namespace

void fail(benchmark::State& state, const std::string& why) {
  failed = true;
  state.SkipWithError(why.c_str());
}

bool any_failed() { return failed; }

void measure(benchmark::State& state, const line_up& who, const effort& how_long) {
  if (const std::string wrong = who.subject->verify(); !wrong.empty()) return fail(state, wrong);

  std::vector<runner> others;
  for (contender* const each : {who.partner, who.read_limit}) {
    if (each != nullptr && each != who.subject) others.push_back({each});
  }

  for (const runner& r : others) {
    if (const std::string wrong = r.who->verify(); !wrong.empty()) return fail(state, "compared with: " + wrong);
  }
  for (const baseline& b : who.baselines) {
    if (b.who == who.subject) continue;
    if (const std::string wrong = b.who->verify(); !wrong.empty())
      return fail(state, fmt::format("{}: {}", b.name, wrong));
  }

  // A first round warms up and tells how many others there is time for.
  double round = who.subject->run();
  for (const runner& r : others) round += r.who->run();
  constexpr double longest = 20.0;  // seconds that the wish for many pairs may cost
  const double least = std::clamp(longest / round, 3.0, 30.0);
  const auto rounds = static_cast<std::size_t>(std::clamp(how_long.seconds / 2.0 / round, least, 2000.0));
  for (const baseline& b : who.baselines) {
    if (b.who == who.subject) continue;
    const auto slower = static_cast<std::size_t>(b.who->run() / round);
    others.push_back({b.who, std::clamp<std::size_t>(slower, 1, std::max<std::size_t>(rounds / 5, 1))});
  }

  for (auto _ : state) {
    state.PauseTiming();
    std::vector<double> subject;
    for (std::size_t i = 0; i < rounds; ++i) subject.push_back(run_round(who, others, i));
    state.SetIterationTime(median(subject));
    report(state, who, others, subject);
    state.ResumeTiming();
    who.subject->run();  // for the column of processor time
  }
}

}  // namespace kvkeep_bench
