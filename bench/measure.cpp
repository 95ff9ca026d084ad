#include "measure.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <vector>

#include <fmt/format.h>

#include "clock.hpp"
#include "huge_buffer.hpp"
#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

bool failed = false;

constexpr std::size_t wanted_rounds = 30;   // in each
constexpr double longest = 20.0;            // seconds that the wish for them may cost
constexpr double longest_placement = 15.0;  // seconds, where there is to be more than one
constexpr double very_long = 30.0;          // seconds of a round of which one must do

/// One who takes part beside the subject, with the seconds of its calls.
struct runner {
  contender* who = nullptr;
  std::size_t every = 1;          // it runs in every so many rounds
  std::vector<double> seconds{};  // of its rounds
  std::vector<double> subject{};  // what the row's subject took in the same rounds
};

/// What the rounds of a row gave; of ratios a list a placement.
struct findings {
  std::vector<double> subject;     // seconds
  std::vector<double> read_limit;  // seconds
  std::map<std::string, std::vector<std::vector<double>>> ratios;

  void add(const std::string& name, const std::vector<double>& above, const std::vector<double>& below) {
    std::vector<double>& to = ratios[name].emplace_back(above.size());
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = above[i] / below[i];
  }
};

/// How often to run.
struct schedule {
  std::size_t placements = 1;
  std::size_t rounds = 1;                      // in each placement
  std::vector<std::size_t> baselines_every{};  // so many rounds
};

/// Verifies all who take part. Empty, or what is wrong.
std::string verify_all(const line_up& who) {
  if (std::string wrong = who.subject->verify(); !wrong.empty()) return wrong;
  for (contender* const each : {who.partner.get(), who.read_limit.get()}) {
    if (each == nullptr || each == who.subject.get()) continue;
    if (const std::string wrong = each->verify(); !wrong.empty()) return "compared with: " + wrong;
  }
  return {};
}
std::string verify_baselines(const line_up& who) {
  for (const baseline& b : who.baselines) {
    if (b.who == who.subject) continue;
    if (const std::string wrong = b.who->verify(); !wrong.empty()) return fmt::format("{}: {}", b.name, wrong);
  }
  return {};
}

/// Seconds of a round without baselines: of one that warms up, or of the verification, whose seconds are given, where one
/// more would take long.
double first_round(const line_up& who, double verified) {
  if (verified > very_long) return verified;
  double seconds = who.subject->run();
  for (contender* const each : {who.partner.get(), who.read_limit.get()}) {
    if (each != nullptr && each != who.subject.get()) seconds += each->run();
  }
  return seconds;
}

schedule plan_row(const line_up& who, bool placements, const effort& how_long, double built, double verified) {
  schedule out;
  const double round = first_round(who, verified);
  if (how_long.seconds > 0.0) {
    const double placement = built + verified + static_cast<double>(wanted_rounds) * round;
    if (placements && placement < longest_placement) out.placements = how_long.placements;
    const auto share = static_cast<double>(out.placements);
    const double most = static_cast<double>(wanted_rounds);
    const double least = round > very_long ? 1.0 : std::clamp(longest / share / round, 3.0, most);
    out.rounds = static_cast<std::size_t>(std::clamp(how_long.seconds / 2.0 / share / round, least, 2000.0));
  } else {
    out.rounds = 3;
  }
  for (const baseline& b : who.baselines) {
    if (b.who == who.subject) {
      out.baselines_every.push_back(1);
      continue;
    }
    const auto slower = round > very_long ? std::size_t{1} : static_cast<std::size_t>(b.who->run() / round);
    out.baselines_every.push_back(std::clamp<std::size_t>(slower, 1, std::max<std::size_t>(out.rounds / 5, 1)));
  }
  return out;
}

/// Runs a round; who comes first in it comes last in the next. The subject's seconds. `state`: times the processor for the
/// subject's call.
double run_round(const line_up& who, std::vector<runner>& others, std::size_t round, benchmark::State* state) {
  std::vector<double> seconds(others.size() + 1, 0.0);
  for (std::size_t turn = 0; turn < seconds.size(); ++turn) {
    const std::size_t at = (turn + round) % seconds.size();
    if (at == others.size()) {
      if (state != nullptr) state->ResumeTiming();
      seconds[at] = who.subject->run();
      if (state != nullptr) state->PauseTiming();
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

/// The rounds of one placement. `state`: if this is the last.
void run_placement(const line_up& who, const schedule& plan, findings& found, benchmark::State* state) {
  std::vector<runner> others;
  for (contender* const each : {who.partner.get(), who.read_limit.get()}) {
    if (each != nullptr && each != who.subject.get()) others.push_back({each});
  }
  for (std::size_t i = 0; i < who.baselines.size(); ++i) {
    if (who.baselines[i].who != who.subject) others.push_back({who.baselines[i].who.get(), plan.baselines_every[i]});
  }
  for (std::size_t i = 0; i < plan.rounds; ++i) {
    found.subject.push_back(run_round(who, others, i, i + 1 == plan.rounds ? state : nullptr));
  }
  for (const runner& r : others) {
    if (r.who == who.read_limit.get()) {
      found.add("read_limit_fraction", r.seconds, r.subject);
      found.read_limit.insert(found.read_limit.end(), r.seconds.begin(), r.seconds.end());
    }
    if (r.who == who.partner.get()) {
      found.add(who.partner_counter, who.faster ? r.seconds : r.subject, who.faster ? r.subject : r.seconds);
    }
    for (const baseline& b : who.baselines) {
      if (r.who == b.who.get()) found.add("ratio_to_" + std::string(b.name), r.seconds, r.subject);
    }
  }
}

/// The median of the placements' medians with the interval of that, or the median of the only placement.
void report_ratio(benchmark::State& state, const std::string& name, const std::vector<std::vector<double>>& lists) {
  std::vector<double> values;
  for (const std::vector<double>& list : lists) values.push_back(median(list));
  if (lists.size() == 1) values = lists[0];
  const interval certain = median_interval(values);
  state.counters[name] = median(values);
  state.counters[name + "_low"] = certain.low;
  state.counters[name + "_high"] = certain.high;
}

void report(benchmark::State& state, const line_up& who, const schedule& plan, const findings& found) {
  auto& counters = state.counters;
  counters["median_us"] = 1e6 * median(found.subject);
  counters["spread"] = spread(found.subject);
  counters["gb_per_s"] = 1e-9 * who.bytes / median(found.subject);
  counters["pairs"] = static_cast<double>(found.subject.size());
  counters["placements"] = static_cast<double>(plan.placements);
  if (who.subject == who.read_limit) counters["read_limit_fraction"] = 1.0;
  if (!found.read_limit.empty()) counters["read_limit_gb_per_s"] = 1e-9 * who.bytes / median(found.read_limit);
  for (const baseline& b : who.baselines) {
    if (b.who == who.subject) counters["ratio_to_" + std::string(b.name)] = 1.0;
  }
  for (const auto& [name, lists] : found.ratios) report_ratio(state, name, lists);
}

}  // namespace

void fail(benchmark::State& state, const std::string& why) {
  failed = true;
  state.SkipWithError(why.c_str());
}

bool any_failed() { return failed; }

void measure(benchmark::State& state, const line_up_maker& make, bool placements, const effort& how_long) {
  for (auto _ : state) {
    state.PauseTiming();
    schedule plan;
    findings found;
    line_up who;
    huge_buffer shift;
    for (std::size_t placement = 0; placement < plan.placements; ++placement) {
      // What is made anew must not get the memory back that it had.
      who = {};
      shift = huge_buffer((placement + 1) * (std::size_t{5} << 20));
      const double start = now(2);
      who = make(placement);
      const double built = now(2);
      if (const std::string wrong = verify_all(who); !wrong.empty()) return fail(state, wrong);
      const double verified = now(2);
      if (placement == 0) {
        if (const std::string wrong = verify_baselines(who); !wrong.empty()) return fail(state, wrong);
        plan = plan_row(who, placements, how_long, built - start, verified - built);
      }
      run_placement(who, plan, found, placement + 1 == plan.placements ? &state : nullptr);
    }
    state.SetIterationTime(median(found.subject));
    report(state, who, plan, found);
    who = {};  // before the processor is timed again
    shift = {};
    state.ResumeTiming();
  }
}

}  // namespace kvkeep_bench
