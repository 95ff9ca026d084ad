// planner_make_impl: how a planner is checked, measured and built. Included by planner.hpp.
#ifndef KVKEEP_CACHE_PLANNER_MAKE_IMPL_HPP
#define KVKEEP_CACHE_PLANNER_MAKE_IMPL_HPP

#include <algorithm>

#include "kvkeep/cache/planner.hpp"

KVKEEP_NAMESPACE_BEGIN

namespace detail {

/// Tokens of one unit at most, so that slots and counts fit their types with room to spare.
inline constexpr std::size_t token_limit = std::size_t{1} << 31;
inline constexpr std::size_t step_limit = std::size_t{1} << 20;

}  // namespace detail

template <class Policy>
planner<Policy>::planner(const model_shape& shape, const Policy& policy, const planner_options& options,
                         detail::measure_t)
    : shape_(shape),
      policy_(policy),
      rules_(policy_.rules()),
      schedule_(rules_.when.schedule()),
      options_(options),
      next_(options.first_position),
      keep_(detail::rule_tuple<retain_type>::of(rules_.retain), options.first_position),
      views_(rules_.select, rules_.distance) {
  used_scope_ = keep_.used_scope();
  if (used_scope_ == kvkeep::scope::layer) units_ = shape.layers;
  if (used_scope_ == kvkeep::scope::kv_head) units_ = shape.layers * shape.kv_heads;
  longest_ = (std::min)(keep_.longest(), detail::longest_of(rules_.select));
  keep_.describe(kept_);
  kept_.few_runs = kept_.few_runs && std::is_same_v<select_type, read_all>;
  for (std::size_t u = 0; u < units_; ++u) {
    kept_.capacity = (std::max)(kept_.capacity, held_at_most(u));
    kept_.in_step = (std::max)(kept_.in_step, in_step(u));
  }
  const bool within = keep_type::any_refuses || schedule_.when == schedule::act::each_token;
  kept_.read = within ? kept_.capacity : kept_.in_step;
  // before_step asks rules what they claim only when tokens have come for which there is no room.
  const bool late = schedule_.when == schedule::act::before_step && keep_type::any_claims;
  const auto since = static_cast<position>(since_decision() + (late ? kept_.capacity : 0));
  if (kept_.rest) *kept_.rest += since;
  if (kept_.oldest) *kept_.oldest += since;
  views_.set(kept_, options.first_position);
}

template <class Policy>
void planner<Policy>::lay_out(detail::arena& memory) {
  table_.lay_out(memory, units_, [&](std::size_t u) { return in_step(u); });
  const std::size_t slots = table_.blocks() * block_tokens;
  keep_.lay_out(memory, kept_.in_step, slots, units_);
  views_.lay_out(memory, kept_.in_step, table_.blocks());
  plans_ = memory.take<plan_memory>(units_);
  for (std::size_t u = 0; u < units_; ++u) {
    const plan_memory mine{memory.take<death>(in_step(u)),
                           0,
                           memory.take<token_drop>(in_step(u)),
                           0,
                           memory.take<token_move>(in_step(u)),
                           memory.take<index_shift>(in_step(u)),
                           memory.take<block_id>(detail::blocks_for(in_step(u))),
                           {}};
    if (!memory.measuring()) plans_[u] = mine;
  }
  death_ = memory.take<std::uint32_t>(slots);
  alive_ = memory.take<slot>(kept_.in_step);
}

template <class Policy>
result<void> planner<Policy>::check(const model_shape& shape, const Policy& policy, const planner_options& options) {
  if (auto ok = shape.check(); !ok) return ok;
  if (auto ok = detail::check_of(policy); !ok) return ok;
  if (options.max_step < 1 || options.max_step > detail::step_limit) {
    return detail::bad_argument("max_step", options.max_step, fmt::format("1 .. {}", detail::step_limit));
  }
  if (options.first_position < 0 || options.first_position >= position_limit) {
    return detail::bad_argument("first_position", options.first_position, fmt::format("0 .. {}", position_limit - 1));
  }
  const rules_type rules = policy.rules();
  const keep_type keep(detail::rule_tuple<retain_type>::of(rules.retain), options.first_position);
  if (auto ok = keep.check(); !ok) return ok;
  if (auto ok = detail::check_of(rules.select); !ok) return ok;
  if (auto ok = detail::check_of(rules.distance); !ok) return ok;
  if (auto ok = detail::check_of(rules.when); !ok) return ok;
  const schedule acts = rules.when.schedule();
  if (acts.together < 1 || (acts.together > 1 && acts.when != schedule::act::each_token)) {
    return detail::bad_argument("when.together", acts.together,
                                acts.when == schedule::act::each_token ? ">= 1" : "1 where not each_token decides");
  }
  if (acts.too_large == schedule::overflow::grow && acts.when != schedule::act::before_step) {
    return detail::bad_argument("when.too_large", "grow", "refuse where not before_step decides");
  }
  if (auto ok = keep.check_with(shape, acts); !ok) return ok;
  if (auto ok = detail::check_shape_of(rules.select, shape); !ok) return ok;
  if (auto ok = detail::check_variants_of(rules.select, shape); !ok) return ok;
  if constexpr (detail::unit_select<select_type>) {
    if (auto ok = rules.select.check_rules(rules); !ok) return ok;
  }
  // Shares are added in long double: they may be anything up to 2^64 - 1.
  const kvkeep::scope used = keep.used_scope();
  const std::size_t layers = used == kvkeep::scope::sequence ? 1 : shape.layers;
  const std::size_t heads = used == kvkeep::scope::kv_head ? shape.kv_heads : 1;
  constexpr long double most_slots = 4.0e9L;
  long double all = 0;
  for (std::size_t l = 0; l < layers && all <= most_slots; ++l) {
    for (std::size_t h = 0; h < heads && all <= most_slots; ++h) {
      long double mine = 0;
      for (const std::size_t share : keep.full_shares({l, h})) mine += static_cast<long double>(share);
      if (mine < 1) return detail::bad_argument("retain", "0 tokens", "a policy that keeps at least one token");
      if (mine > static_cast<long double>(detail::token_limit)) {
        return detail::bad_argument("retain", fmt::format("{:.0f} tokens", static_cast<double>(mine)),
                                    fmt::format("1 .. {} tokens a unit", detail::token_limit));
      }
      all += mine + 2 * static_cast<long double>(options.max_step) + 32;
    }
  }
  if (all > most_slots) {
    return detail::bad_argument("retain", "more than 4000000000 tokens in all units", "less than 4000000000");
  }
  return {};
}

template <class Policy>
result<planner<Policy>> planner<Policy>::try_make(const model_shape& shape, const Policy& policy,
                                                  const planner_options& options) {
  const auto bytes = try_bytes(shape, policy, options);
  if (!bytes) return bytes.error();
  planner made(shape, policy, options, detail::measure);
  made.memory_ = detail::arena(*bytes);
  if (made.memory_.measuring()) {
    return detail::make_error(errc::capacity, "policy", fmt::format("no memory for {} bytes of tables", *bytes));
  }
  made.lay_out(made.memory_);
  made.table_.reset();
  made.keep_.reset_states(made.units_, [&](std::size_t u) { return made.place_of(u); });
  std::fill(made.death_.begin(), made.death_.end(), never);
  for (plan_memory& p : made.plans_) p.plan = {};
  return made;
}

template <class Policy>
result<std::size_t> planner<Policy>::try_bytes(const model_shape& shape, const Policy& policy,
                                               const planner_options& options) {
  if (auto ok = check(shape, policy, options); !ok) return ok.error();
  planner measured(shape, policy, options, detail::measure);
  detail::arena ruler;
  measured.lay_out(ruler);
  return ruler.used();
}

KVKEEP_NAMESPACE_END

#endif
