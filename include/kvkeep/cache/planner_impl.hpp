// planner_impl: the steps of a planner. Included by planner.hpp.
#ifndef KVKEEP_CACHE_PLANNER_IMPL_HPP
#define KVKEEP_CACHE_PLANNER_IMPL_HPP

#include <algorithm>

#include "kvkeep/cache/planner.hpp"

KVKEEP_NAMESPACE_BEGIN

template <class Policy>
std::size_t planner<Policy>::held_at_most(std::size_t unit) const {
  const auto all = shares(unit);
  std::size_t capacity = keep_type::sum(all);
  if (schedule_.when == schedule::act::each_token) capacity += since_decision();
  if (schedule_.when == schedule::act::before_step && schedule_.too_large == schedule::overflow::grow) {
    return (std::max)(capacity, capacity - keep_type::payable(all) + options_.max_step);
  }
  return capacity;
}

template <class Policy>
std::size_t planner<Policy>::mark(std::size_t unit, const typename keep_type::shares& all, std::size_t tokens,
                                  std::size_t fresh) {
  const detail::unit_tokens& u = table_.unit(unit);
  return keep_.mark(
      unit, all, tokens, fresh, [&](std::size_t i) { return table_.at(u.order[i]); },
      [&](std::size_t i) { return u.order[i]; });
}

template <class Policy>
result<void> planner<Policy>::check_closed(std::string_view call) const {
  if (!open()) return {};
  return detail::make_error(errc::wrong_state, call,
                            fmt::format("{} while a step of {} tokens is open; commit or leave it first", call, step_));
}

template <class Policy>
result<void> planner<Policy>::try_begin(std::size_t n) {
  if (auto ok = check_closed("begin"); !ok) return ok;
  if (n < 1 || n > options_.max_step) {
    return detail::bad_argument("n", n, fmt::format("1 .. max_step = {}", options_.max_step));
  }
  if (static_cast<position>(n) > position_limit - next_) {
    return detail::bad_argument("n", n,
                                fmt::format("0 .. {}, where the stream's positions end", position_limit - next_));
  }
  if (auto ok = check_longest(n); !ok) return ok;
  if (keep_type::any_refuses ||
      (schedule_.when == schedule::act::before_step && schedule_.too_large == schedule::overflow::refuse)) {
    if (auto ok = check_room(n); !ok) return ok;
  }
  for (std::size_t u = 0; u < units_; ++u) table_.take(u, n, next_);
  step_ = n;
  rollback undo{this};  // a user's rule may throw
  for (std::size_t u = 0; u < units_; ++u) plan_deaths(u, n);
  if (keep_type::any_surprisal && schedule_.when == schedule::act::each_token) {
    if (auto ok = check_told(n); !ok) return ok;
  }
  undo.of = nullptr;
  return {};
}

template <class Policy>
result<void> planner<Policy>::check_told(std::size_t n) const {
  std::size_t most = n;  // tokens of the step until somebody's place depends on what is told of those before
  for (const plan_memory& memory : plans_) {
    for (const death& d : memory.deaths.first(memory.dying)) {
      if (d.query > 0) most = (std::min)(most, std::size_t{d.query});
    }
  }
  if (most == n) return {};
  return detail::make_error(
      errc::capacity, "n",
      fmt::format(
          "n = {}; allowed: 1 .. {}: a rule ranked by evidence decides who leaves for a token once it is told of "
          "those before, at commit; reserve({}) makes room for all of them at once",
          n, most, n));
}

template <class Policy>
void planner<Policy>::add_death(std::size_t unit, slot s, std::size_t query) noexcept {
  plan_memory& memory = plans_[unit];
  death_[index(s)] = static_cast<std::uint32_t>(query);
  memory.deaths[memory.dying++] = {s, static_cast<std::uint32_t>(query)};
}

template <class Policy>
void planner<Policy>::forget_deaths(std::size_t unit) noexcept {
  plan_memory& memory = plans_[unit];
  for (const death& d : memory.deaths.first(memory.dying)) death_[index(d.where)] = never;
  memory.dying = 0;
}

template <class Policy>
void planner<Policy>::plan_deaths(std::size_t unit, std::size_t n) {
  const detail::unit_tokens& u = table_.unit(unit);
  if (schedule_.when == schedule::act::before_step) {
    if (mark_for_coming(unit, n) == 0) return;
    keep_.each_dropped(u.held, [&](std::size_t i) { add_death(unit, u.order[i], 0); });
  } else if (schedule_.when == schedule::act::each_token && !keep_type::any_refuses) {
    const auto all = shares(unit);
    const auto place = [&](std::size_t i) { return table_.at(alive_[i]); };
    const auto where = [&](std::size_t i) { return alive_[i]; };
    std::size_t living = u.held;
    std::size_t told = u.held;  // of the living, those held before the step
    std::copy_n(u.order.begin(), living, alive_.begin());
    keep_.begin_states(unit);
    for (std::size_t t = 0; t < n; ++t) {
      alive_[living++] = u.order[u.held + t];
      keep_.advance_states(unit, coming(t));
      if (t % schedule_.together != 0 || keep_.keeps_whole(unit, all, living)) continue;
      if (keep_.mark(unit, all, living, told, place, where) == 0) continue;
      detail::gap_closer stay{alive_};
      const std::size_t held = told;
      keep_.each_dropped(living, [&](std::size_t i) {
        add_death(unit, alive_[i], t);
        if (i < held) --told;
        stay.keep_until(i);
      });
      stay.keep_until(living);
      living = stay.kept;
    }
    keep_.drop_states(unit);
  }
}

template <class Policy>
query_view planner<Policy>::view(std::size_t unit, std::size_t query, std::size_t variant) {
  const detail::unit_tokens& u = table_.unit(unit);
  const std::span<const slot> tokens = u.order.first(u.held + query + 1);
  return views_.build(table_, unit, tokens, next_ + static_cast<position>(query), variant,
                      [&](std::size_t i) { return death_[index(tokens[i])] > query; });
}

template <class Policy>
result<void> planner<Policy>::check_evidence(std::size_t count, const commit_evidence& evidence) const {
  if constexpr (!wants_surprisals) {
    if (evidence.surprisals.empty()) return {};
    return detail::make_error(errc::unsupported, "surprisals", "surprisals given to a policy that does not use them");
  } else {
    if (evidence.surprisals.size() != count) {
      return detail::bad_argument("surprisals", fmt::format("{} values", evidence.surprisals.size()),
                                  fmt::format("one a committed token: {}", count));
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (!(evidence.surprisals[i] >= 0.0F)) {
        return detail::bad_argument(fmt::format("surprisals[{}]", i), evidence.surprisals[i], ">= 0, infinity too");
      }
    }
    return {};
  }
}

template <class Policy>
result<void> planner<Policy>::check_commit(std::size_t count, const commit_evidence& evidence) const {
  if (!open()) return detail::make_error(errc::wrong_state, "commit", "commit without an open step");
  if (count > step_) return detail::bad_argument("count", count, fmt::format("0 .. {}, the step's tokens", step_));
  return check_evidence(count, evidence);
}

template <class Policy>
result<void> planner<Policy>::try_commit(std::size_t count, const commit_evidence& evidence) {
  if (auto ok = commit_quietly(count, evidence); !ok) return ok;
  if (count > 0) tell(drop_reason::evicted);
  return {};
}

template <class Policy>
result<void> planner<Policy>::commit_quietly(std::size_t count, const commit_evidence& evidence) {
  if (auto ok = check_commit(count, evidence); !ok) return ok;
  if (count == 0) {
    abort();
    return {};
  }
  // First all that a user's rule may refuse by an exception, then what cannot fail.
  for (std::size_t u = 0; u < units_; ++u) decide(u, count, evidence);
  const std::size_t written = step_;
  step_ = 0;
  next_ += static_cast<position>(count);
  for (std::size_t u = 0; u < units_; ++u) {
    keep_.keep_states(u);
    if constexpr (keep_type::any_end_step) {
      for (const slot s : table_.unit(u).tokens()) keep_.end_step(s);
    }
    forget_deaths(u);
    apply(u, table_.unit(u).held + count, table_.unit(u).held + written);
  }
  return {};
}

template <class Policy>
void planner<Policy>::decide(std::size_t unit, std::size_t count, const commit_evidence& evidence) {
  const detail::unit_tokens& u = table_.unit(unit);
  const std::size_t tokens = u.held + count;
  if constexpr (wants_surprisals) {
    for (std::size_t t = 0; t < count; ++t) keep_.admit(u.order[u.held + t], evidence.surprisals[t]);
  }
  keep_.begin_states(unit);
  const auto advance = [&] {
    for (std::size_t t = 0; t < count; ++t) keep_.advance_states(unit, coming(t));
  };
  if (schedule_.when == schedule::act::each_token) {
    advance();
    plan_memory& memory = plans_[unit];
    memory.leaving = 0;
    for (std::size_t d = 0; d < memory.dying && memory.deaths[d].query < count; ++d) {
      add_leaving(unit, memory.deaths[d].where);
    }
    const auto older = [](const token_drop& a, const token_drop& b) { return a.at < b.at; };
    const std::span<token_drop> leaving = memory.dropped.first(memory.leaving);
    if (!std::is_sorted(leaving.begin(), leaving.end(), older)) std::sort(leaving.begin(), leaving.end(), older);
  } else if (schedule_.when == schedule::act::before_step) {
    // Planned again for the tokens that really come: begin(count) would have dropped no more than these need.
    mark_for_coming(unit, count);
    list_leaving(unit, u.held);
    advance();
  } else {
    advance();
    mark(unit, shares(unit), tokens, tokens);
    list_leaving(unit, tokens);
  }
}

template <class Policy>
void planner<Policy>::add_leaving(std::size_t unit, slot s) noexcept {
  plan_memory& memory = plans_[unit];
  memory.dropped[memory.leaving++] = {s, table_.at(s)};
}

template <class Policy>
void planner<Policy>::list_leaving(std::size_t unit, std::size_t tokens) noexcept {
  plans_[unit].leaving = 0;
  keep_.each_dropped(tokens, [&](std::size_t i) { add_leaving(unit, table_.unit(unit).order[i]); });
}

template <class Policy>
void planner<Policy>::apply(std::size_t unit, std::size_t tokens, std::size_t written) {
  detail::unit_tokens& u = table_.unit(unit);
  plan_memory& memory = plans_[unit];
  std::size_t shifts = 0;
  detail::gap_closer stay{u.order};
  const auto keep_until = [&](std::size_t end) {
    if (stay.kept < stay.read && stay.read < end) {
      memory.shifts[shifts++] = {table_.at(u.order[stay.read]), table_.at(u.order[end - 1]),
                                 static_cast<position>(stay.kept) - static_cast<position>(stay.read)};
    }
    stay.keep_until(end);
  };
  for (const token_drop& drop : memory.dropped.first(memory.leaving)) {
    keep_until(table_.find(unit, drop.at, stay.read, tokens));
    table_.release(drop.where);
  }
  keep_until(tokens);
  for (std::size_t i = tokens; i < written; ++i) table_.release(u.order[i]);
  u.held = stay.kept;
  std::size_t moves = 0;
  if (options_.moves == compaction::on) {
    table_.compact(unit, [&](slot from, slot to) {
      keep_.move_columns(from, to);
      memory.moves[moves++] = {from, to};
    });
  }
  std::size_t freed = 0;
  table_.release_empty_blocks(unit, [&](block_id b) { memory.freed[freed++] = b; });
  memory.plan = {memory.dropped.first(memory.leaving), memory.moves.first(moves), memory.shifts.first(shifts),
                 memory.freed.first(freed)};
}

template <class Policy>
void planner<Policy>::tell(drop_reason reason) const {
  if (!options_.on_drop) return;
  for (std::size_t u = 0; u < units_; ++u) {
    if (!last(u).dropped.empty()) options_.on_drop({u, reason, last(u).dropped, next_});
  }
}

template <class Policy>
void planner<Policy>::abort() noexcept {
  const std::size_t written = step_;
  step_ = 0;
  for (std::size_t u = 0; u < units_; ++u) {
    detail::unit_tokens& mine = table_.unit(u);
    for (std::size_t i = mine.held; i < mine.held + written; ++i) table_.release(mine.order[i]);
    table_.release_empty_blocks(u, [](block_id) {});
    forget_deaths(u);
    keep_.drop_states(u);
  }
}

KVKEEP_NAMESPACE_END

#endif
