// planner_messages_impl: room for what comes, messages and inspection of a planner. Included by planner.hpp.
#ifndef KVKEEP_CACHE_PLANNER_MESSAGES_IMPL_HPP
#define KVKEEP_CACHE_PLANNER_MESSAGES_IMPL_HPP

#include <algorithm>

#include "kvkeep/cache/planner.hpp"

KVKEEP_NAMESPACE_BEGIN

template <class Policy>
bool planner<Policy>::fits(std::size_t unit, std::size_t n) const {
  if (keep_type::any_makes_room && schedule_.when != schedule::act::before_step) return true;
  const detail::unit_tokens& u = table_.unit(unit);
  const auto all = shares(unit);
  const std::size_t capacity = keep_type::sum(all);
  if (u.held > capacity || n > capacity - u.held) return false;
  if (schedule_.when != schedule::act::each_token || keep_type::any_refuses) return true;
  // A share that only certain tokens can use is room for nobody else: the rules themselves say who would stay.
  keep_.begin_states(unit);
  for (std::size_t t = 0; t < n; ++t) keep_.advance_states(unit, coming(t));
  const std::size_t leaving = keep_.mark(
      unit, all, u.held + n, u.held,
      [&](std::size_t i) { return i < u.held ? table_.at(u.order[i]) : coming(i - u.held).at; },
      [&](std::size_t i) { return u.order[i]; });
  keep_.drop_states(unit);
  return leaving == 0;
}

template <class Policy>
std::size_t planner<Policy>::mark_for_coming(std::size_t unit, std::size_t n) {
  const std::size_t held = table_.unit(unit).held;
  if (fits(unit, n)) {
    keep_.mark_all(held);
    return 0;
  }
  return mark(unit, keep_.reduced_shares(shares(unit), n), held, held);
}

template <class Policy>
result<void> planner<Policy>::check_longest(std::size_t n) const {
  const auto so_far = static_cast<std::size_t>(next_ - options_.first_position);
  const std::size_t room = longest_ - (std::min)(longest_, so_far);
  if (n <= room) return {};
  return error{errc::capacity, "n",
               fmt::format("kvkeep: n = {}; allowed: 0 .. {}: {} of max_tokens = {} tokens have come", n, room, so_far,
                           longest_)};
}

template <class Policy>
result<void> planner<Policy>::check_room(std::size_t n) const {
  for (std::size_t u = 0; u < units_; ++u) {
    if (fits(u, n)) continue;
    const auto all = shares(u);
    if (!keep_type::any_refuses && n <= keep_type::payable(all)) continue;
    const std::size_t capacity = keep_type::sum(all);
    const std::size_t held = table_.unit(u).held;
    std::size_t room = 0;  // the largest that fits, between bounds that close in
    for (std::size_t too_many = (held < capacity ? capacity - held : 0) + 1; room + 1 < too_many;) {
      const std::size_t middle = room + (too_many - room) / 2;
      (fits(u, middle) ? room : too_many) = middle;
    }
    if constexpr (keep_type::any_refuses) {
      return error{errc::capacity, "n",
                   fmt::format("kvkeep: n = {}; allowed: 0 .. {}: {} of max_tokens = {} tokens are held", n, room, held,
                               capacity)};
    } else {
      const std::size_t most = (std::max)(room, keep_type::payable(all));
      return error{errc::capacity, "n",
                   fmt::format("kvkeep: n = {}; allowed: 0 .. {}: sinks and pinned tokens do not make room", n, most)};
    }
  }
  return {};
}

template <class Policy>
result<void> planner<Policy>::try_reserve(std::size_t n) {
  if (auto ok = check_closed("reserve"); !ok) return ok;
  if (auto ok = check_longest(n); !ok) return ok;
  if (auto ok = check_room(n); !ok) return ok;
  for (std::size_t u = 0; u < units_; ++u) {
    mark_for_coming(u, n);
    list_leaving(u, held_count(u));
  }
  for (std::size_t u = 0; u < units_; ++u) apply(u, held_count(u), held_count(u));
  tell(drop_reason::reserved);
  return {};
}

template <class Policy>
result<void> planner<Policy>::try_erase(position first, position last) {
  if (auto ok = check_closed("erase"); !ok) return ok;
  if (first < options_.first_position) {
    return detail::bad_argument("first", first, fmt::format(">= first_position = {}", options_.first_position));
  }
  if (last < first || last > next_) {
    return detail::bad_argument("last", last, fmt::format("first = {} .. {}, the end of the stream", first, next_));
  }
  for (std::size_t u = 0; u < units_; ++u) {
    plans_[u].leaving = 0;
    for (const slot s : held_slots(u)) {
      if (table_.at(s) >= first && table_.at(s) < last) add_leaving(u, s);
    }
    apply(u, held_count(u), held_count(u));
  }
  tell(drop_reason::erased);
  return {};
}

template <class Policy>
result<void> planner<Policy>::try_end_turn() {
  if (auto ok = check_closed("end_turn"); !ok) return ok;
  for (std::size_t u = 0; u < units_; ++u) {
    for (const slot s : table_.unit(u).tokens()) keep_.end_turn(s);
  }
  return {};
}

template <class Policy>
result<void> planner<Policy>::try_clear() {
  if (auto ok = check_closed("clear"); !ok) return ok;
  next_ = options_.first_position;
  for (std::size_t u = 0; u < units_; ++u) {
    plans_[u].leaving = 0;
    for (const slot s : held_slots(u)) add_leaving(u, s);
    apply(u, held_count(u), held_count(u));
  }
  table_.reset();
  keep_.reset_states(units_, [&](std::size_t u) { return place_of(u); });
  tell(drop_reason::cleared);
  return {};
}

template <class Policy>
std::vector<position> planner<Policy>::held(std::size_t unit) const {
  std::vector<position> out;
  out.reserve(held_count(unit));
  for (const slot s : held_slots(unit)) out.push_back(table_.at(s));
  return out;
}

template <class Policy>
std::vector<position> planner<Policy>::next_held(std::size_t unit) const {
  std::vector<position> out = held(unit);
  const std::span<const slot> order = table_.unit(unit).tokens();
  auto all = shares(unit);
  std::size_t tokens = out.size();
  if (keep_type::any_refuses || schedule_.when == schedule::act::after_step) return out;
  if (schedule_.when == schedule::act::each_token) {
    ++tokens;  // the next token takes part in the choice
  } else {
    if (tokens + 1 <= keep_type::sum(all)) return out;
    all = keep_.reduced_shares(all, 1);
  }
  keep_.begin_states(unit);
  if (tokens > out.size()) keep_.advance_states(unit, coming(0));
  keep_.mark(
      unit, all, tokens, out.size(), [&](std::size_t i) { return i < out.size() ? out[i] : next_; },
      [&](std::size_t i) { return order[i]; });
  keep_.drop_states(unit);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (keep_.kept(i)) out[kept++] = out[i];
  }
  out.resize(kept);
  return out;
}

KVKEEP_NAMESPACE_END

#endif
