#include "tasks.hpp"

#include "checkpoint.hpp"
#include "contestant.hpp"
#include "failure.hpp"
#include "machine.hpp"
#include "option_range.hpp"
#include "policy_step.hpp"
#include "run_watch.hpp"
#include "task_data.hpp"
#include "task_run.hpp"
#include "task_session.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace kvkeep_eval {

namespace {

constexpr std::size_t sinks = 4;
constexpr std::size_t dense_room = 4096;  // tokens, where a task has no dialogs to end it

void check_options(const task_options& options) {
  check_range("threads", options.threads, 1, most_threads);
  check_range("budget", options.budget, least_task_budget, most_task_budget);
  check_range("dialogs", options.dialogs.value_or(1), 1, most_task_size);
  check_range("distractors", options.distractors, 0, most_task_size);
  check_range("stem-words", options.stem_words, 1, largest_chunk);
  check_range("rounds", options.rounds, 1, most_task_size);
  if (options.text.empty() != (options.task == task_name::rock_paper_scissors)) {
    throw failure(options.text.empty()
                      ? fmt::format("text is not given; {} reads one", text_of(options.task))
                      : fmt::format("text is {}; {} reads none", options.text.string(), text_of(options.task)));
  }
}

// The turns of every dialog.
std::vector<conversation> make_turns(const task_options& options, const tokenizer& pieces) {
  const turn_maker make(pieces);
  std::vector<conversation> out;
  for (const task_file& file : make_task_data(options)) {
    for (const dialog& each : file.dialogs) {
      conversation& turns = out.emplace_back();
      std::optional<std::size_t> last;
      for (const question& q : each) {
        if (options.task == task_name::grocery) {
          turns.push_back(make.grocery(q));
        } else if (options.task == task_name::daily_dialog) {
          turns.push_back(make.daily_dialog(q));
        } else {
          turns.push_back(make.rock_paper_scissors(q, std::exchange(last, q.user_choice)));
        }
      }
    }
  }
  return out;
}

// The most tokens that a dialog can have.
std::size_t longest_dialog(const std::vector<conversation>& dialogs) {
  std::size_t longest = 0;
  for (const conversation& turns : dialogs) {
    std::size_t tokens = 1;  // BOS
    for (const task_turn& turn : turns) {
      tokens += turn.most_tokens();
    }
    longest = std::max(longest, tokens);
  }
  return longest;
}

std::size_t longest_turn(const std::vector<conversation>& dialogs) {
  std::size_t longest = 0;
  for (const conversation& turns : dialogs) {
    for (const task_turn& turn : turns) {
      longest = std::max(longest, turn.most_tokens());
    }
  }
  return longest;
}

std::vector<task_entrant> make_entrants(const task_options& options, const std::vector<conversation>& dialogs) {
  const bool endless = options.task == task_name::rock_paper_scissors;
  const std::size_t whole = longest_dialog(dialogs);
  const std::size_t room = endless ? std::min(whole, dense_room) : whole;
  std::vector<std::string> specs = options.policies;
  if (specs.empty()) {
    specs = policies_at_budget(options.budget, room);
  }
  std::vector<task_entrant> out;
  for (const std::string& spec : specs) {
    out.push_back({spec, parse_kv_policy(spec, room)});
  }
  return out;
}

// Leaves out of DailyDialog what is too long for one of the policies; the other tasks make turns that must fit. How many.
std::size_t leave_out_long_turns(const task_options& options, const std::vector<task_entrant>& entrants,
                                 std::vector<conversation>& dialogs) {
  std::size_t left_out = 0;
  for (const task_entrant& entrant : entrants) {
    const std::size_t room = turn_room(entrant.policy, largest_chunk);
    const auto too_long = [&](const task_turn& turn) { return turn.most_tokens() > room; };
    for (conversation& turns : dialogs) {
      left_out += static_cast<std::size_t>(std::erase_if(turns, too_long));
    }
    if (left_out > 0 && options.task != task_name::daily_dialog) {
      throw failure(fmt::format("policy {}: a turn of up to {} tokens fits beside its sinks; {} of the task are longer",
                                entrant.spec, room, left_out));
    }
  }
  std::erase_if(dialogs, [](const conversation& turns) { return turns.empty(); });
  if (dialogs.empty()) {
    throw failure("every turn of the text is too long for one of the policies");
  }
  return left_out;
}

// What else decides the data, and the budget of policies that were not named.
std::vector<task_setting> settings_of(const task_options& options) {
  std::vector<task_setting> out;
  if (!options.text.empty()) {
    out.push_back({"text", options.text.filename().string()});
  }
  if (options.task == task_name::grocery) {
    out.push_back({"distractors", fmt::format("{}", options.distractors)});
    out.push_back({"stem_words", fmt::format("{}", options.stem_words)});
    out.push_back({"goods", std::string(text_of(options.goods))});
  }
  if (options.task == task_name::rock_paper_scissors) {
    out.push_back({"rounds", fmt::format("{}", options.rounds)});
  }
  if (options.policies.empty()) {
    out.push_back({"budget", fmt::format("{}", options.budget)});
  }
  return out;
}

// Builds every cache and throws it away: it shows that the last policy fits the model before the first has run.
void check_caches(const std::vector<task_entrant>& entrants, const checkpoint& source, const task_report& report,
                  std::size_t threads) {
  for (const task_entrant& entrant : entrants) {
    static_cast<void>(make_model_cache(source.config(), entrant.policy, report.longest_turn, threads, entrant.spec));
  }
}

}  // namespace

std::string_view text_of(task_name task) {
  switch (task) {
    case task_name::grocery:
      return "grocery";
    case task_name::daily_dialog:
      return "dailydialog";
    case task_name::rock_paper_scissors:
      break;
  }
  return "rock_paper_scissors";
}

std::string_view text_of(choice_rule rule) {
  switch (rule) {
    case choice_rule::mean:
      return "mean";
    case choice_rule::sum:
      return "sum";
    case choice_rule::published:
      break;
  }
  return "published";
}

std::string_view text_of(goods_kind goods) { return goods == goods_kind::words ? "words" : "groceries"; }

std::vector<std::string> policies_at_budget(std::size_t budget, std::size_t room) {
  const std::size_t rest = budget - sinks;
  return {fmt::format("dense:max_tokens={}", room), fmt::format("streaming_llm:sinks={},window={}", sinks, rest),
          fmt::format("sir_llm:sinks={},window=0,count={}", sinks, rest),
          fmt::format("random:sinks={},window=1,count={}", sinks, rest - 1),
          fmt::format("interval:sinks={},window=1,count={}", sinks, rest - 1)};
}

std::vector<task_file> make_task_data(const task_options& options) {
  const std::string path = options.text.string();
  switch (options.task) {
    case task_name::grocery:
      return {{"keys.jsonl", make_grocery({.dialogs = options.dialogs.value_or(usual_grocery_dialogs),
                                           .distractors = options.distractors,
                                           .stem_words = options.stem_words,
                                           .goods = options.goods,
                                           .seed = options.seed},
                                          read_text(options.text), path)}};
    case task_name::daily_dialog: {
      std::vector<dialog> all = read_daily_dialog(read_text(options.text), path, options.seed);
      all.resize(std::min(all.size(), options.dialogs.value_or(all.size())));
      return {{"dailydialog.jsonl", std::move(all)}};
    }
    case task_name::rock_paper_scissors:
      break;
  }
  std::vector<task_file> out;
  for (std::size_t favourite = 0; favourite < hand_count; ++favourite) {
    out.push_back({fmt::format("rock_paper_scissors_dominant_{}.jsonl", hands[favourite]),
                   {make_rock_paper_scissors(options.rounds, favourite, options.seed)}});
  }
  return out;
}

task_report run_tasks(const task_options& options, const compare_hooks& hooks) {
  check_options(options);
  const checkpoint source(options.model, options.tokenizer);
  std::vector<conversation> dialogs = make_turns(options, source.pieces());
  const std::vector<task_entrant> entrants = make_entrants(options, dialogs);
  task_report out;
  out.machine = describe_machine(options.threads);
  out.model = source.name();
  out.trained_length = source.config().trained_length;
  out.task = text_of(options.task);
  out.rule = text_of(options.rule);
  out.seed = options.seed;
  out.settings = settings_of(options);
  out.left_out = leave_out_long_turns(options, entrants, dialogs);
  out.dialogs = dialogs.size();
  out.longest_turn = longest_turn(dialogs);
  check_caches(entrants, source, out, options.threads);
  const llama model = source.load(options.threads);

  for (std::size_t i = 0; i < entrants.size() && !out.interrupted; ++i) {
    std::size_t turns = 0;
    for (const conversation& each : dialogs) {
      turns += each.size();
    }
    run_watch watch(hooks,
                    {.spec = entrants[i].spec,
                     .policy = i + 1,
                     .policies = entrants.size(),
                     .done = 0,
                     .total = turns,
                     .unit = "turns"},
                    out.interrupted);
    const task_input input{.model = model,
                           .dialogs = dialogs,
                           .begin_of_stream = source.begin_of_stream(),
                           .longest_turn = out.longest_turn,
                           .rule = options.rule,
                           .report = watch.report(),
                           .stop = watch.stop()};
    out.error = watch.attempt([&] {
      if (task_result result = run_task(input, entrants[i], options.task); result.turns > 0) {
        out.policies.push_back(std::move(result));
      }
    });
    if (!out.error.empty()) {
      return out;
    }
  }
  return out;
}

}  // namespace kvkeep_eval
