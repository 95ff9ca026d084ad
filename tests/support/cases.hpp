// The policies that property tests run, each beside its description in words.
#ifndef KVKEEP_TESTS_SUPPORT_CASES_HPP
#define KVKEEP_TESTS_SUPPORT_CASES_HPP

#include <gtest/gtest.h>

#include <limits>

#include "codecs.hpp"
#include "model.hpp"

namespace kvkeep_test {

/// A user's rule: keeps every n-th token for long, in a share of its own.
struct every_nth {
  std::size_t n = 5;
  std::size_t count = 8;
  [[nodiscard]] std::size_t share() const { return count; }
  [[nodiscard]] bool claims(const kvkeep::held_token& t) const { return t.number % static_cast<position>(n) == 0; }
};

/// A user's rule: the most surprising tokens stay; every turn halves what they were.
struct most_surprising {
  std::size_t count = 9;
  using evidence = kvkeep::surprisal;
  using column = float;
  [[nodiscard]] std::size_t share() const { return count; }
  [[nodiscard]] column admit(float e) const { return e; }
  [[nodiscard]] double rank(const kvkeep::held_token&, column c) const { return static_cast<double>(c); }
  [[nodiscard]] column end_turn(column c) const { return c / 2; }
};

/// A user's rule: the same, but every 8 tokens of the stream cost a token 1 of its surprisal.
struct fading : most_surprising {
  using state = position;  // the number of the newest token
  [[nodiscard]] state advance(state, const kvkeep::held_token& t) const { return t.number; }
  [[nodiscard]] double rank(const kvkeep::held_token& t, column c, state newest) const {
    return static_cast<double>(c) - static_cast<double>((newest - t.number) / 8);
  }
};

/// Whether the token of this number begins a paragraph.
inline bool begins_paragraph(position number) { return mix(static_cast<std::uint64_t>(number)) % 11 == 0; }

/// A user's rule: the newest tokens of the paragraph that the stream is in.
struct paragraph {
  std::size_t count = 14;
  using state = position;  // the number of the paragraph's first token
  [[nodiscard]] std::size_t share() const { return count; }
  [[nodiscard]] state advance(state begin, const kvkeep::held_token& t) const {
    return begins_paragraph(t.number) ? t.number : begin;
  }
  [[nodiscard]] bool claims(const kvkeep::held_token& t, state begin) const { return t.number >= begin; }
};

/// Keeps the first `sinks` tokens of a stream that begins at `first`, the newest `window`, and of the rest those that
/// chosen(rest, how many) gives, whose share pays first.
template <class Chosen>
words sinks_window_and(position first, std::size_t sinks, std::size_t window, std::size_t count, const Chosen& chosen) {
  words w = sinks_and_window(first, 0, 0);
  w.capacity = sinks + window + count;
  w.keep = [=](const positions& list, std::size_t less) {
    const std::size_t from_chosen = std::min(less, count);
    positions kept;
    positions rest;
    for (const position p : list) (p - first < static_cast<position>(sinks) ? kept : rest).push_back(p);
    const positions recent_ones = newest(rest, window - std::min(less - from_chosen, window));
    rest.resize(rest.size() - recent_ones.size());
    for (const position p : chosen(rest, count - from_chosen)) kept.push_back(p);
    kept.insert(kept.end(), recent_ones.begin(), recent_ones.end());
    std::sort(kept.begin(), kept.end());
    return kept;
  };
  return w;
}

/// A random sample of a list, as the rule sampled draws it: numbers of splitmix64 by seed and stream number, sorted.
inline positions sample_of(positions list, std::size_t count, position first, std::uint64_t seed) {
  const auto drawn = [&](position p) { return mix(mix(seed) + static_cast<std::uint64_t>(p - first)); };
  std::sort(list.begin(), list.end(), [&](position a, position b) { return drawn(a) > drawn(b); });
  list.resize(std::min(count, list.size()));
  std::sort(list.begin(), list.end());
  return list;
}

/// Evenly spaced tokens of a list: the multiples of the smallest power of two for which there is room, and the oldest of
/// those halfway between.
inline positions spaced_of(const positions& list, std::size_t count, position first) {
  const auto multiples = [&](position step) {
    positions found;
    for (const position p : list) {
      if ((p - first) % step == 0) found.push_back(p);
    }
    return found;
  };
  position step = 1;
  while (multiples(step).size() > count && step < position{1} << 40) step *= 2;
  positions kept = multiples(step);
  for (const position p : multiples(std::max<position>(1, step / 2))) {
    if (kept.size() < count && (p - first) % step != 0) kept.push_back(p);
  }
  if (kept.size() > count) kept.clear();  // not even the first token of the stream
  std::sort(kept.begin(), kept.end());
  return kept;
}

/// The `count` most surprising tokens of a list, those not told yet before all others; `faded` as the rule fading.
inline positions surprising_of(positions list, std::size_t count, const memory& m, bool faded) {
  const auto value = [&](position p) {
    if (m.told.count(p) == 0) return std::numeric_limits<double>::infinity();
    return static_cast<double>(m.told.at(p)) - (faded ? static_cast<double>((m.newest - p) / 8) : 0.0);
  };
  std::stable_sort(list.begin(), list.end(), [&](position a, position b) { return value(a) > value(b); });
  list.resize(std::min(count, list.size()));
  std::sort(list.begin(), list.end());
  return list;
}

/// Calls f(name, policy, words, largest n that reserve may be asked for) for every policy under test, whose stream begins
/// at `first`.
template <class F>
void for_each_policy(position first, const F& f) {
  using namespace kvkeep;
  {
    words w = sinks_and_window(first, 0, 100000);
    w.distance = [](position q, position k, position) { return q - k; };
    f("dense", dense{.max_tokens = 100000}, w, std::size_t{0});
  }
  {
    words w = sinks_and_window(first, 0, 23);
    w.distance = [](position q, position k, position) { return q - k; };
    f("sliding_window", sliding_window{.window = 23}, w, std::size_t{23});
  }
  f("streaming_llm", streaming_llm{.sinks = 3, .window = 21}, sinks_and_window(first + 3, 3, 21), std::size_t{21});
  f("streaming_llm without sinks", streaming_llm{.sinks = 0, .window = 9}, sinks_and_window(first, 0, 9),
    std::size_t{9});
  {
    words w = sinks_and_window(first + 4, 4, 17);
    w.distance = [=](position q, position k, position) {
      return q - k < 17 || k >= first + 4 ? q - k : 17 + 4 - 1 - (k - first);
    };
    f("streaming_llm::settled", streaming_llm::settled{.sinks = 4, .window = 17}, w, std::size_t{17});
  }
  {
    words w = sinks_and_window(first + 5, 5, 18);
    w.distance = [](position q, position k, position) { return q - k < 18 ? q - k : position{18}; };
    f("lm_infinite", lm_infinite{.sinks = 5, .window = 18}, w, std::size_t{18});
  }
  {
    words w = sinks_and_window(first + 2, 2, 18);
    w.distance = [](position q, position k, position) { return q - k < 18 ? q - k : position{17}; };
    f("lm_infinite of InfLLM", lm_infinite{.sinks = 2, .window = 18, .limit_distance = 17}, w, std::size_t{18});
  }
  {
    words w = sinks_and_window(first, 0, 100000);
    w.distance = [](position q, position k, position) { return q - k < 12 ? q - k : position{9}; };
    f("all kept, beyond 12 at 9", policy{keep_all{100000}, read_all{}, beyond{12, 9}, each_token{}}, w, std::size_t{0});
  }
  {
    words w = sinks_and_window(first, 0, 30);
    w.distance = [](position q, position k, position) { return std::min(q - k, position{11}); };
    f("window 30 clamped to 11", policy{recent{30}, read_all{}, clamped_distance{11}, each_token{}}, w,
      std::size_t{30});
  }
  {
    // A pinned range in the middle of the stream, and a window that fills up behind it.
    words w = sinks_and_window(first, 0, 15);
    w.capacity = 2 + 6 + 15;
    w.keep = [=](const positions& list, std::size_t less) {
      positions kept;
      positions rest;
      for (const position p : list) {
        const position number = p - first;
        (number < 2 || (number >= 20 && number < 26) ? kept : rest).push_back(p);
      }
      for (const position p : newest(rest, 15 - std::min(less, std::size_t{15}))) kept.push_back(p);
      std::sort(kept.begin(), kept.end());
      return kept;
    };
    f("sinks, pinned, recent",
      policy{keep{sinks{2}, pinned{20, 26}, recent{15}}, read_all{}, cache_distance{}, each_token{}}, w,
      std::size_t{15});
  }
  {
    // Every fifth token of the past, eight of them: ranks scattered over reused slots, keys stored raw.
    const words w = sinks_window_and(first, 2, 12, 8, [=](const positions& rest, std::size_t count) {
      positions fifth;
      for (const position p : rest) {
        if ((p - first) % 5 == 0) fifth.push_back(p);
      }
      return newest(fifth, count);
    });
    f("every fifth", policy{keep{sinks{2}, recent{12}, every_nth{}}, read_all{}, cache_distance{}, each_token{}}, w,
      std::size_t{20});
  }
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{77}}) {
    f("random", random_eviction{.sinks = 2, .window = 9, .count = 13, .seed = seed},
      sinks_window_and(first, 2, 9, 13,
                       [=](const positions& rest, std::size_t count) { return sample_of(rest, count, first, seed); }),
      std::size_t{22});
  }
  for (const std::size_t sinks : {std::size_t{0}, std::size_t{3}}) {
    f("interval", interval_eviction{.sinks = sinks, .window = 8, .count = 11},
      sinks_window_and(first, sinks, 8, 11,
                       [=](const positions& rest, std::size_t count) { return spaced_of(rest, count, first); }),
      std::size_t{19});
  }
  {
    const auto m = std::make_shared<memory>();
    words w = sinks_window_and(first, 1, 5, 14, [=](const positions& rest, std::size_t count) {
      position begin = m->newest;
      while (begin > first && !begins_paragraph(begin - first)) --begin;
      positions mine = rest;
      std::erase_if(mine, [&](position p) { return p < begin; });
      return newest(mine, count);
    });
    w.remembered = m;
    f("this paragraph", policy{keep{sinks{1}, recent{5}, paragraph{}}, read_all{}, cache_distance{}, each_token{}}, w,
      std::size_t{19});
    w.when = words::act::after_step;
    f("this paragraph, after the step",
      policy{keep{sinks{1}, recent{5}, paragraph{}}, read_all{}, cache_distance{}, after_step{}}, w, std::size_t{19});
  }
  for (const bool in_stream : {true, false}) {
    const auto distance = [=](position q, position k, position newer) { return in_stream ? q - k : newer; };
    const auto counted = in_stream ? pattern_distance::counted::stream : pattern_distance::counted::read;
    const std::string name = in_stream ? "" : ", distances as read";
    words w = sinks_and_window(first, 0, 100000);
    w.distance = distance;
    w.reads = [](position q, position k) { return q - k <= 6 || (q - k) % 6 == 0; };
    f("sparse_strided" + name, sparse_strided{.stride = 6, .distance = counted, .max_tokens = 100000}, w,
      std::size_t{0});
    w.reads = [](position q, position k) { return q / 12 == k / 12 || k % 12 >= 9; };
    w.keep = [reads = w.reads](positions list, std::size_t) {
      std::erase_if(list, [&, q = list.back()](position k) { return !reads(q, k); });
      return list;
    };
    f("sparse_fixed" + name, sparse_fixed{.block = 12, .columns = 3, .distance = counted, .max_tokens = 100000}, w,
      std::size_t{0});
    w.reads = [](position q, position k) {
      const position age = q - k;
      return q / 20 == k / 20 && (age < 3 || age == 3 || age == 4 || age == 6 || age == 10 || age == 18);
    };
    w.keep = [reads = w.reads](positions list, std::size_t) {
      std::erase_if(list, [&, q = list.back()](position k) {
        for (position later = q; later < q + 20; ++later) {
          if (reads(later, k)) return false;
        }
        return true;
      });
      return list;
    };
    f("log_sparse" + name, log_sparse_attention{.window = 3, .restart = 20, .distance = counted}, w, std::size_t{0});
  }
  for (const bool before : {true, false}) {
    words w = sinks_and_window(first, 0, 0);
    w.capacity = 3 + 20;
    w.keep = [](const positions& list, std::size_t less) {
      positions kept(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(3, list.size())));
      const positions rest(list.begin() + static_cast<std::ptrdiff_t>(kept.size()), list.end());
      for (const position p : newest(rest, 20 - std::min(less, std::size_t{20}))) kept.push_back(p);
      return kept;
    };
    w.when = before ? words::act::before_step : words::act::after_step;
    using orders = streaming_llm::published::orders;
    f(before ? "published, evict_then_append" : "published, append_then_evict",
      streaming_llm::published{
          .start = 3, .recent = 20, .order = before ? orders::evict_then_append : orders::append_then_evict},
      w, std::size_t{20});
  }
}

/// The same where queries of a step share decisions.
template <class F>
void for_each_policy_by_blocks(position first, const F& f) {
  using namespace kvkeep;
  for (const std::size_t together : {std::size_t{1}, std::size_t{5}, std::size_t{16}}) {
    const std::string name = ", by blocks of " + std::to_string(together);
    words w = sinks_and_window(first, 0, 16);
    w.distance = [](position q, position k, position) { return q - k; };
    w.together = together;
    f("sliding_window" + name, policy{recent{16}, read_all{}, true_distance{}, each_block{together}}, w,
      std::size_t{16});
    w = sinks_window_and(first, 2, 9, 5,
                         [=](const positions& rest, std::size_t count) { return sample_of(rest, count, first, 3); });
    w.together = together;
    f("random" + name,
      policy{keep{sinks{2}, recent{9}, sampled{5, 3}}, read_all{}, cache_distance{}, each_block{together}}, w,
      std::size_t{14});
  }
}

/// The same for few of them, one of each form in which keys are stored: rotated; rotated but for the first, raw ones;
/// rotated and raw; raw, with any ranks.
template <class F>
void for_each_storage(position first, const F& f) {
  using namespace kvkeep;
  f("streaming_llm", streaming_llm{.sinks = 3, .window = 21}, sinks_and_window(first + 3, 3, 21), std::size_t{21});
  {
    words w = sinks_and_window(first + 5, 5, 18);
    w.distance = [](position q, position k, position) { return q - k < 18 ? q - k : position{18}; };
    f("lm_infinite", lm_infinite{.sinks = 5, .window = 18}, w, std::size_t{18});
  }
  {
    words w = sinks_and_window(first, 0, 26);
    w.distance = [](position q, position k, position) { return q - k < 10 ? q - k : position{9}; };
    f("window 26, beyond 10 at 9", policy{recent{26}, read_all{}, beyond{10, 9}, each_token{}}, w, std::size_t{26});
  }
  f("random", random_eviction{.sinks = 2, .window = 9, .count = 13, .seed = 5},
    sinks_window_and(first, 2, 9, 13,
                     [=](const positions& rest, std::size_t count) { return sample_of(rest, count, first, 5); }),
    std::size_t{22});
}

/// The same for sir_llm, which is told surprisals.
template <class F>
void with_sir_llm(position first, const F& f) {
  const auto m = std::make_shared<memory>();
  words w = sinks_window_and(
      first, 2, 6, 9, [=](const positions& rest, std::size_t count) { return surprising_of(rest, count, *m, false); });
  w.remembered = m;
  f("sir_llm", kvkeep::sir_llm{.sinks = 2, .window = 6, .count = 9, .decay = 0.5}, w, std::size_t{15});
}

/// The same for all policies that are.
template <class F>
void for_each_policy_with_surprisals(position first, const F& f) {
  using namespace kvkeep;
  const auto told = [&](bool faded, words::act when, std::size_t window = 6) {
    const auto m = std::make_shared<memory>();
    words w = sinks_window_and(first, 2, window, 9, [=](const positions& rest, std::size_t count) {
      return surprising_of(rest, count, *m, faded);
    });
    w.when = when;
    w.remembered = m;
    return w;
  };
  const auto rules = [](const auto& rule, const auto& when) {
    return policy{keep{sinks{2}, recent{6}, rule}, read_all{}, cache_distance{}, when};
  };
  f("surprising, each_token", rules(most_surprising{}, each_token{}), told(false, words::act::each_token),
    std::size_t{15});
  f("fading, each_token", rules(fading{}, each_token{}), told(true, words::act::each_token), std::size_t{15});
  f("surprising without a window",
    policy{keep{sinks{2}, most_surprising{}}, read_all{}, cache_distance{}, each_token{}},
    told(false, words::act::each_token, 0), std::size_t{9});
  with_sir_llm(first, f);
  {
    const auto m = std::make_shared<memory>();
    words w = sinks_and_window(first, 0, 0);
    w.capacity = 2 + 12 + 14;
    w.when = words::act::before_step;
    w.remembered = m;
    w.keep = [=](const positions& list, std::size_t less) {
      positions kept = surprising_of(list, 14 - std::min(less, std::size_t{14}), *m, false);
      const auto add = [&](std::size_t i) {
        if (std::find(kept.begin(), kept.end(), list[i]) == kept.end()) kept.push_back(list[i]);
      };
      for (std::size_t i = 0; i < std::min<std::size_t>(2, list.size()); ++i) add(i);
      for (std::size_t i = list.size(); i-- > 1 && kept.size() < 28 - less;) add(i);
      std::sort(kept.begin(), kept.end());
      return kept;
    };
    w.fades = false;
    f("sir_llm::published", sir_llm::published{.start = 2, .recent = 12, .entropies = 14}, w, std::size_t{26});
  }
  const streaming_llm::published::when before{streaming_llm::published::orders::evict_then_append};
  f("surprising, before_step", rules(most_surprising{}, before), told(false, words::act::before_step), std::size_t{15});
  f("fading, before_step", rules(fading{}, before), told(true, words::act::before_step), std::size_t{15});
  f("surprising, after_step", rules(most_surprising{}, after_step{}), told(false, words::act::after_step),
    std::size_t{15});
  f("fading, after_step", rules(fading{}, after_step{}), told(true, words::act::after_step), std::size_t{15});
}

}  // namespace kvkeep_test

#endif
