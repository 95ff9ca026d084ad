#include "task_session.hpp"

#include "policy_step.hpp"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

namespace kvkeep_eval {

namespace {

template <class F>
auto of_preset(const kvkeep::any_policy& policy, const F& f) {
  return policy.visit([&](const auto& preset) { return f(preset); });
}

std::size_t token_limit(const kvkeep::any_policy& policy) {
  return of_preset(policy, [](const auto& preset) {
    if constexpr (requires { preset.max_tokens; }) {
      return preset.max_tokens;
    } else {
      return std::numeric_limits<std::size_t>::max();
    }
  });
}

bool decides_once_a_step(const kvkeep::any_policy& policy) {
  return of_preset(policy, [](const auto& preset) {
    return !kvkeep::planner<std::remove_cvref_t<decltype(preset)>>::when_type::chunk_invariant;
  });
}

bool is_published_sir_llm(const kvkeep::any_policy& policy) {
  return of_preset(policy, [](const auto& preset) {
    return std::is_same_v<std::remove_cvref_t<decltype(preset)>, kvkeep::sir_llm::published>;
  });
}

std::vector<token> joined(std::initializer_list<std::span<const token>> parts) {
  std::vector<token> out;
  for (const std::span<const token> part : parts) {
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

}  // namespace

std::size_t turn_room(const kvkeep::any_policy& policy, std::size_t longest) {
  return of_preset(policy, [&](const auto& preset) {
    std::size_t room = 0;
    bool bounded = false;
    const auto add = [&](std::size_t tokens) {
      room += tokens;
      bounded = true;
    };
    if constexpr (requires { preset.pattern(); }) {
      return longest;  // what comes makes room for itself
    }
    if constexpr (requires { preset.window; }) {
      add(preset.window);
    }
    if constexpr (requires { add(preset.count); }) {
      add(preset.count);
    }
    if constexpr (requires { preset.recent; }) {
      add(preset.recent);
    }
    if constexpr (requires { preset.entropies; }) {
      add(preset.entropies);
    }
    return bounded ? std::min(room, longest) : longest;
  });
}

task_session::task_session(const llama& model, const kvkeep::any_policy& policy, std::string spec, std::size_t longest,
                           token begin_of_stream)
    : model_(model),
      spec_(std::move(spec)),
      limit_(token_limit(policy)),
      whole_turns_(decides_once_a_step(policy)),
      published_measure_(is_published_sir_llm(policy)),
      cache_(make_model_cache(model.config(), policy, longest, model.threads(), spec_)),
      stream_(model.config().vocabulary) {
  commit({&begin_of_stream, 1});
}

bool task_session::begin_turn(const task_turn& turn) {
  const std::size_t tokens = turn.most_tokens();
  const auto read = static_cast<std::size_t>(cache_.next_position());
  if (limit_ < read || limit_ - read < tokens) {
    return false;
  }
  if (!whole_turns_) {
    check(cache_.try_reserve(tokens), spec_);
  }
  return true;
}

std::size_t task_session::take_turn(const task_turn& turn, choice_rule rule) {
  if (!whole_turns_ && !turn.prompt.empty()) {
    commit(turn.prompt);
  }
  const std::size_t chosen = turn.choices.empty() ? 0 : best_choice(turn, rule);
  const std::span<const token> prompt = whole_turns_ ? std::span<const token>(turn.prompt) : std::span<const token>();
  const std::span<const token> choice =
      turn.choices.empty() ? std::span<const token>() : std::span<const token>(turn.choices[chosen]);
  if (const std::vector<token> rest = joined({prompt, choice, turn.end}); !rest.empty()) {
    commit(rest);
  }
  check(cache_.try_end_turn(), spec_);
  return chosen;
}

// Notes surprisals whether or not the policy asks for them.
void task_session::commit(std::span<const token> tokens) {
  const auto tell = [&](const matrix& states) -> std::span<const float> {
    model_.logits(states, 0, tokens.size(), logits_);
    const kvkeep::logits_view view{logits_.data(), tokens.size(), model_.config().vocabulary};
    const std::size_t before = surprisals_.size();
    surprisals_.resize(before + tokens.size());
    const std::span<float> values = std::span(surprisals_).subspan(before);
    check(stream_.try_push(view, tokens, values), spec_);
    last_ = logits_.bottomRows(1);
    if (!published_measure_) {
      return values;
    }
    told_.resize(tokens.size());
    check(kvkeep::try_published_surprisals(view, tokens, told_), spec_);
    return told_;
  };
  bool told = false;
  const matrix states = run_model_step(model_, cache_, tokens, spec_, [&](const matrix& made) {
    told = true;
    return tell(made);
  });
  if (!told) {
    static_cast<void>(tell(states));
  }
}

std::size_t task_session::best_choice(const task_turn& turn, choice_rule rule) {
  const std::size_t ahead = whole_turns_ ? turn.prompt.size() : 0;
  std::vector<std::vector<token>> read = turn.choices;
  for (std::vector<token>& choice : read) {
    choice.insert(choice.begin(), turn.prompt.begin(), turn.prompt.begin() + static_cast<std::ptrdiff_t>(ahead));
  }
  const matrix states = run_alternatives(model_, cache_, read, spec_);
  model_.logits(states, 0, static_cast<std::size_t>(states.rows()), logits_);
  std::vector<choice_score> scores;
  std::size_t first = 0;
  for (const std::vector<token>& choice : turn.choices) {
    const Eigen::Index own = index(first + ahead);  // the row of the choice's first token
    scores.push_back(ahead == 0 ? score_of(last_, 0, logits_, own, choice)
                                : score_of(logits_, own - 1, logits_, own, choice));
    first += ahead + choice.size();
  }
  return choose(scores, rule);
}

}  // namespace kvkeep_eval
