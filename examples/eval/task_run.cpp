#include "task_run.hpp"

#include "policy_step.hpp"
#include "task_data.hpp"
#include "task_session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <span>

namespace kvkeep_eval {

namespace {

// The sums behind a fact_record.
class fact_tally {
 public:
  // A fact was read from position `first` on, whose word has these tokens.
  void tell(std::size_t first, const token_range& word) { word_ = {first + word.first, first + word.last}; }

  // Room has been made for the question for it.
  void ask(const task_session& session) {
    const std::vector<kvkeep::position> held = session.held();
    held_ = 0;
    for (std::size_t at = word_.first; at < word_.last; ++at) {
      held_ += std::binary_search(held.begin(), held.end(), static_cast<kvkeep::position>(at)) ? 1U : 0U;
    }
  }

  // The question was answered; `read` is the number of tokens before it.
  void answer(const task_session& session, std::size_t read, bool hit) {
    const std::size_t tokens = word_.last - word_.first;
    (held_ == tokens ? record_.all_held : held_ > 0 ? record_.some_held : record_.none_held).add(hit);
    const std::span<const float> before = session.surprisals().subspan(1, read - 1);  // without BOS
    for (std::size_t at = word_.first; at < word_.last; ++at) {
      const float surprisal = session.surprisals()[at];
      const auto more = std::count_if(before.begin(), before.end(), [&](float other) { return other > surprisal; });
      record_.surprisal += static_cast<double>(surprisal);
      record_.rank += static_cast<double>(more + 1);
      if (at == word_.first) {
        record_.first_surprisal += static_cast<double>(surprisal);
        record_.first_rank += static_cast<double>(more + 1);
      }
    }
    word_tokens_ += tokens;
    record_.tokens += static_cast<double>(before.size());
    ++dialogs_;
  }

  [[nodiscard]] fact_record result() const {
    fact_record out = record_;
    const double words = std::max(static_cast<double>(dialogs_), 1.0);
    const double tokens = std::max(static_cast<double>(word_tokens_), 1.0);
    out.surprisal /= tokens;
    out.rank /= tokens;
    out.first_surprisal /= words;
    out.first_rank /= words;
    out.tokens /= words;
    return out;
  }

 private:
  static constexpr double chance = 1.0 / choice_count;

  fact_record record_{.surprisal = 0,
                      .rank = 0,
                      .first_surprisal = 0,
                      .first_rank = 0,
                      .tokens = 0,
                      .all_held = {"recall, word held", chance, 0, 0},
                      .some_held = {"recall, word held in part", chance, 0, 0},
                      .none_held = {"recall, word not held", chance, 0, 0}};
  token_range word_;      // positions
  std::size_t held_ = 0;  // of them, when the question came
  std::size_t word_tokens_ = 0;
  std::size_t dialogs_ = 0;
};

// The accuracies of a task, in the order of the report.
std::vector<accuracy> empty_accuracies(task_name task) {
  constexpr double quarter = 1.0 / choice_count;
  constexpr double third = 1.0 / hand_count;
  switch (task) {
    case task_name::grocery:
      return {{"recall", quarter, 0, 0}, {"distractors", quarter, 0, 0}};
    case task_name::daily_dialog:
      return {{"answers", quarter, 0, 0}};
    case task_name::rock_paper_scissors:
      break;
  }
  std::vector<accuracy> out{{"wins", third, 0, 0}, {"ties", third, 0, 0}};
  for (const std::string_view hand : hands) {
    out.push_back({fmt::format("wins, {} dominant", hand), third, 0, 0});
  }
  return out;
}

void add_answer(const task_turn& turn, std::size_t chosen, std::size_t dialog, std::vector<accuracy>& accuracies) {
  const bool hit = chosen == turn.answer;
  switch (turn.kind) {
    case turn_kind::statement:
      return;
    case turn_kind::recall:
    case turn_kind::reply:
      accuracies[0].add(hit);
      return;
    case turn_kind::distractor:
      accuracies[1].add(hit);
      return;
    case turn_kind::round:
      accuracies[0].add(hit);
      accuracies[1].add(chosen == turn.user_choice);
      accuracies[2 + dialog].add(hit);
      return;
  }
}

}  // namespace

task_result run_task(const task_input& input, const task_entrant& entrant, task_name task) {
  task_result out;
  out.spec = entrant.spec;
  out.accuracies = empty_accuracies(task);
  fact_tally facts;
  std::chrono::duration<double> seconds{0};
  for (std::size_t i = 0; i < input.dialogs.size() && !(input.stop && input.stop()); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const kvkeep::any_policy policy = reseeded(entrant.policy, i);
    task_session session(input.model, policy, entrant.spec, input.longest_turn, input.begin_of_stream);
    for (const task_turn& turn : input.dialogs[i]) {
      const std::size_t read = session.surprisals().size();
      if (!session.begin_turn(turn)) {
        out.full = true;
        break;
      }
      if (turn.kind == turn_kind::statement) {
        facts.tell(read, turn.word);
      } else if (turn.kind == turn_kind::recall) {
        facts.ask(session);
      }
      const std::size_t chosen = session.take_turn(turn, input.rule);
      if (turn.kind == turn_kind::recall) {
        facts.answer(session, read, chosen == turn.answer);
      }
      add_answer(turn, chosen, i, out.accuracies);
      out.kept_tokens = std::max(out.kept_tokens, session.held_count());
      ++out.turns;
      if (input.report) {
        input.report(out.turns);
      }
      if (input.stop && input.stop()) {
        break;
      }
    }
    out.tokens += session.surprisals().size();
    seconds += std::chrono::steady_clock::now() - begin;
  }
  out.tokens_per_second = static_cast<double>(out.tokens) / std::max(seconds.count(), 1e-9);
  if (task == task_name::grocery) {
    out.fact = facts.result();
  }
  return out;
}

}  // namespace kvkeep_eval
