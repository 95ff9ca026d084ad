#ifndef KVKEEP_EVAL_TASK_SESSION_HPP
#define KVKEEP_EVAL_TASK_SESSION_HPP

#include "choice.hpp"
#include "llama.hpp"
#include "policy_step.hpp"
#include "task_turn.hpp"

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace kvkeep_eval {

// The most tokens a turn may have under this policy on a cache that is full, of `longest` that a step may have.
[[nodiscard]] std::size_t turn_room(const kvkeep::any_policy& policy, std::size_t longest);

// A conversation of a model under one policy: turn after turn, each with room made for it first. Refers to the model.
// A policy that decides token by token or on messages gets the prompt as one step and the choice as another; one that
// decides once a step gets the whole turn as one. All choices are scored on the same cache, then the chosen one is
// committed.
class task_session {
 public:
  // `longest` is the most tokens of a turn, at most largest_chunk.
  task_session(const llama& model, const kvkeep::any_policy& policy, std::string spec, std::size_t longest,
               token begin_of_stream);

  // Makes room for the turn: what is held from now on is what its questions can be answered from. False, and nothing
  // changes, if the policy keeps everything and has no room left.
  [[nodiscard]] bool begin_turn(const task_turn& turn);
  // Reads the turn with the choice that `rule` takes, and ends it; the choice's number, 0 of a statement.
  std::size_t take_turn(const task_turn& turn, choice_rule rule);

  // Positions of the tokens held.
  [[nodiscard]] std::vector<kvkeep::position> held() const { return held_anywhere(cache_); }
  [[nodiscard]] std::size_t held_count() const { return kept_tokens(cache_); }
  // The surprisal of every token read, in nats, by position: -ln P(token | what was held when it came). Infinite for BOS.
  [[nodiscard]] std::span<const float> surprisals() const noexcept { return surprisals_; }

 private:
  void commit(std::span<const token> tokens);
  [[nodiscard]] std::size_t best_choice(const task_turn& turn, choice_rule rule);

  const llama& model_;
  std::string spec_;
  std::size_t limit_;       // tokens that a policy which keeps everything has room for
  bool whole_turns_;        // a step is a turn
  bool published_measure_;  // the policy is told what the authors' code tells
  kvkeep::any_cache cache_;
  kvkeep::surprisal_stream stream_;
  std::vector<float> surprisals_;  // [tokens read]
  std::vector<float> told_;        // [tokens of a step]
  matrix logits_;                  // [tokens of a step, vocabulary]
  matrix last_;                    // [1, vocabulary]: what the last token committed predicts
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASK_SESSION_HPP
