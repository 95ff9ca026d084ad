// The tasks on real caches: what a turn is, what choices are scored on, and the whole report.
#include "tasks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint.hpp"
#include "loss.hpp"
#include "policy_step.hpp"
#include "support.hpp"
#include "task_json.hpp"
#include "task_session.hpp"
#include "task_table.hpp"
#include "task_turn.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::checkpoint;
using kvkeep_eval::choice_rule;
using kvkeep_eval::index;
using kvkeep_eval::llama;
using kvkeep_eval::matrix;
using kvkeep_eval::question;
using kvkeep_eval::run_tasks;
using kvkeep_eval::task_name;
using kvkeep_eval::task_options;
using kvkeep_eval::task_report;
using kvkeep_eval::task_session;
using kvkeep_eval::task_turn;
using kvkeep_eval::token;
using kvkeep_eval::turn_maker;

const checkpoint& bundled() {
  static const checkpoint source(bundled_model());
  return source;
}

const llama& model() {
  static const llama loaded = bundled().load(1);
  return loaded;
}

const question fact{.id = "key_0",
                    .stem = "I want you to buy for Mary the GROCERY: [lemons].",
                    .choices = {"OK"},
                    .answer = 0,
                    .user_choice = {}};
const question recall{.id = "answer_0",
                      .stem = "What GROCERY did Mary want? For Mary the GROCERY:",
                      .choices = {"[butter].", "[cheese].", "[lemons].", "[walnuts]."},
                      .answer = 2,
                      .user_choice = {}};

std::vector<token> joined(const task_turn& turn, std::size_t choice) {
  std::vector<token> out = turn.prompt;
  if (!turn.choices.empty()) out.insert(out.end(), turn.choices[choice].begin(), turn.choices[choice].end());
  out.insert(out.end(), turn.end.begin(), turn.end.end());
  return out;
}

TEST(TaskTurn, IsTheTextEncodedAsAWhole) {
  const auto& pieces = bundled().pieces();
  const turn_maker make(pieces);
  const task_turn told = make.grocery(fact);
  EXPECT_EQ(joined(told, 0), pieces.encode(fact.stem + "\n"));
  EXPECT_TRUE(told.choices.empty());
  EXPECT_EQ(pieces.decode(std::span(told.prompt).subspan(told.word.first, told.word.last - told.word.first)), "lemons");

  const task_turn asked = make.grocery(recall);
  EXPECT_EQ(asked.kind, kvkeep_eval::turn_kind::recall);
  std::size_t longest = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(joined(asked, i), pieces.encode(recall.stem + " " + recall.choices[i] + "\n"));
    longest = std::max(longest, joined(asked, i).size());
  }
  EXPECT_EQ(asked.most_tokens(), longest);
  EXPECT_EQ(pieces.decode(asked.prompt), recall.stem + " [") << "what all choices begin with is read once";

  const task_turn reply = make.daily_dialog(recall);
  EXPECT_EQ(joined(reply, 1), pieces.encode(recall.stem + "\n" + recall.choices[1] + "\n"));
}

// A choice that another one begins with is left at least one token, and no two rounds ask for the same.
TEST(TaskTurn, ChoicesAreNeverEmpty) {
  const turn_maker make(bundled().pieces());
  const task_turn turn = make.daily_dialog(
      {.id = "0_1", .stem = "Well?", .choices = {"the king", "the king of Judah"}, .answer = 0, .user_choice = {}});
  EXPECT_EQ(turn.choices[0].size(), 1U);
  EXPECT_GT(turn.choices[1].size(), 1U);

  const question round{
      .id = "1", .stem = "Play.", .choices = {"rock", "paper", "scissors"}, .answer = 1, .user_choice = 0};
  const auto& pieces = bundled().pieces();
  EXPECT_TRUE(pieces.decode(make.rock_paper_scissors(round, 2).prompt).starts_with("I chose [scissors]. Analyze"));
  EXPECT_TRUE(pieces.decode(make.rock_paper_scissors(round, std::nullopt).prompt).starts_with("Let's play a game of"));
}

// The mean log-probability of each choice, by computing the whole stream anew for every one of them.
std::vector<double> slow_values(const std::vector<token>& before, const task_turn& turn) {
  std::vector<double> out;
  for (const std::vector<token>& choice : turn.choices) {
    std::vector<token> stream = before;
    stream.insert(stream.end(), turn.prompt.begin(), turn.prompt.end());
    const std::size_t first = stream.size();
    stream.insert(stream.end(), choice.begin(), choice.end());
    const auto policy = kvkeep::parse_policy("dense", {.max_tokens = stream.size()});
    auto cache = kvkeep_eval::make_model_cache(bundled().config(), policy, stream.size(), 1, "dense");
    const matrix states = kvkeep_eval::run_model_step(model(), cache, stream, "dense");
    matrix logits;
    model().logits(states, 0, stream.size(), logits);
    double sum = 0;
    for (std::size_t i = 0; i < choice.size(); ++i) {
      sum -= kvkeep_eval::loss(logits, index(first + i) - 1, choice[i]);
    }
    out.push_back(sum / static_cast<double>(choice.size()));
  }
  return out;
}

// Prompt and choice in two steps, or in one where the policy decides once a step: the same choices.
TEST(TaskSession, TakesTheLikeliestChoiceAndReadsItAlone) {
  const turn_maker make(bundled().pieces());
  const std::vector<question> questions{fact,
                                        {.id = "0",
                                         .stem = "In the beginning God",
                                         .choices = {"said unto the", "created the heaven", "an hundred"},
                                         .answer = 1,
                                         .user_choice = {}},
                                        {.id = "0",
                                         .stem = "And the LORD said unto",
                                         .choices = {"butter, cheese", "walked upon", "Moses, Speak"},
                                         .answer = 2,
                                         .user_choice = {}},
                                        recall};
  for (const char* const spec : {"dense:max_tokens=200", "streaming_llm:window=150", "sir_llm:window=50,count=100",
                                 "sir_llm_published:recent=50,entropies=100"}) {
    SCOPED_TRACE(spec);
    task_session session(model(), kvkeep::parse_policy(spec), spec, 60, bundled().begin_of_stream());
    std::vector<token> read{bundled().begin_of_stream()};
    for (const question& q : questions) {
      const task_turn turn = make.grocery(q);
      ASSERT_TRUE(session.begin_turn(turn));
      const std::size_t chosen = session.take_turn(turn, choice_rule::mean);
      if (!turn.choices.empty()) {
        const std::vector<double> values = slow_values(read, turn);
        const auto best = std::max_element(values.begin(), values.end()) - values.begin();
        EXPECT_EQ(chosen, static_cast<std::size_t>(best)) << q.stem;
      }
      const std::vector<token> added = joined(turn, chosen);
      read.insert(read.end(), added.begin(), added.end());
      EXPECT_EQ(session.surprisals().size(), read.size());
      EXPECT_EQ(session.held_count(), read.size()) << "all fits: nothing but what was read is held";
    }
  }
}

TEST(TaskSession, KeepsItsBudgetAndSurprisalsOfWhatItRead) {
  const turn_maker make(bundled().pieces());
  const task_turn turn = make.grocery(fact);
  for (const char* const spec : {"streaming_llm:sinks=4,window=44", "sir_llm:sinks=4,window=0,count=44",
                                 "random:sinks=4,window=1,count=43", "interval:sinks=4,window=1,count=43"}) {
    SCOPED_TRACE(spec);
    task_session session(model(), kvkeep::parse_policy(spec), spec, 40, bundled().begin_of_stream());
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(session.begin_turn(turn));
      EXPECT_LE(session.held_count(), 48 - turn.most_tokens());
      EXPECT_EQ(session.take_turn(turn, choice_rule::mean), 0U);
      EXPECT_LE(session.held_count(), 48U);
    }
    EXPECT_EQ(session.surprisals().size(), 1 + 5 * turn.most_tokens());
    EXPECT_EQ(session.surprisals()[0], std::numeric_limits<float>::infinity());
    EXPECT_GT(session.surprisals()[1 + turn.word.first], 0.5F);
  }
}

TEST(TaskSession, DenseEndsWhereItIsFull) {
  const task_turn turn = turn_maker(bundled().pieces()).grocery(fact);
  const std::size_t room = 1 + 2 * turn.most_tokens();
  task_session session(model(), kvkeep::dense{.max_tokens = room}, "dense", 40, bundled().begin_of_stream());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(session.begin_turn(turn));
    session.take_turn(turn, choice_rule::mean);
  }
  EXPECT_FALSE(session.begin_turn(turn));
  EXPECT_EQ(session.held_count(), room);
}

task_options small_grocery() {
  task_options options;
  options.model = bundled_model();
  options.text = data_file("gettysburg.txt");
  options.dialogs = 3;
  options.distractors = 4;
  options.stem_words = 5;
  options.budget = 64;
  return options;
}

nlohmann::json without_clock(const task_report& report) {
  auto out = nlohmann::json::parse(kvkeep_eval::to_json(report));
  out.erase("machine");
  for (auto& policy : out["policies"]) policy.erase("tokens_per_second");
  return out;
}

TEST(Tasks, TheSameForAnyNumberOfThreads) {
  task_options options = small_grocery();
  const nlohmann::json one = without_clock(run_tasks(options));
  EXPECT_EQ(one, without_clock(run_tasks(options)));
  options.threads = 2;
  EXPECT_EQ(one, without_clock(run_tasks(options)));
  options.seed = 1;
  EXPECT_NE(one, without_clock(run_tasks(options)));
  ASSERT_EQ(one["policies"].size(), 5U);
  EXPECT_EQ(one["settings"]["distractors"], "4");
  for (const auto& policy : one["policies"]) {
    EXPECT_EQ(policy["turns"], 18);
    EXPECT_EQ(policy["accuracies"][0]["asked"], 3);
    EXPECT_EQ(policy["accuracies"][1]["asked"], 12);
    const bool dense = policy["spec"].get<std::string>().starts_with("dense");
    EXPECT_EQ(policy["kept_tokens"].get<std::size_t>() > 64, dense);
  }
}

TEST(Tasks, TheFactIsReadWhereItIsHeld) {
  const task_report report = run_tasks(small_grocery());
  const auto& dense = report.policies[0];
  EXPECT_EQ(dense.accuracies[0].hits, 3U);
  EXPECT_EQ(dense.fact.value().all_held.asked, 3U);
  EXPECT_EQ(dense.fact->all_held.hits, 3U);
  const auto& window = report.policies[1].fact.value();
  EXPECT_EQ(window.none_held.asked, 3U) << "it has left the window";
  EXPECT_EQ(window.all_held.asked + window.some_held.asked, 0U);
  EXPECT_GT(dense.fact->surprisal, 1);
  EXPECT_GE(dense.fact->rank, 1);
  EXPECT_LT(dense.fact->rank, dense.fact->tokens);
  const std::string table = kvkeep_eval::to_table(report);
  EXPECT_EQ(
      table.rfind("grocery: 3 dialogs, seed 0, text gettysburg.txt, distractors 4, stem_words 5, goods groceries, "
                  "budget 64; model",
                  0),
      0U)
      << table;
  EXPECT_NE(table.find("100.0 [43.9, 100.0]"), std::string::npos) << table;
  EXPECT_NE(table.find("guessing: recall 25.0%, distractors 25.0%\n"), std::string::npos) << table;
}

TEST(Tasks, RockPaperScissorsUntilDenseIsFull) {
  task_options options;
  options.model = bundled_model();
  options.task = task_name::rock_paper_scissors;
  options.rounds = 3;
  options.policies = {"dense:max_tokens=150", "streaming_llm:window=100"};
  const task_report report = run_tasks(options);
  EXPECT_TRUE(report.policies[0].full);
  EXPECT_LT(report.policies[0].turns, 9U);
  const auto& result = report.policies[1];
  EXPECT_FALSE(result.full);
  EXPECT_EQ(result.turns, 9U);
  EXPECT_EQ(result.accuracies[0].asked, 9U);
  EXPECT_EQ(result.accuracies[0].hits,
            result.accuracies[2].hits + result.accuracies[3].hits + result.accuracies[4].hits);
  EXPECT_LE(result.accuracies[0].hits + result.accuracies[1].hits, 9U);
  EXPECT_FALSE(result.fact.has_value());
}

TEST(Tasks, DailyDialogLeavesOutWhatIsTooLong) {
  const temporary_directory directory;
  const auto file = directory.path() / "dialogs.txt";
  std::string text =
      "Who ? __eou__ I . __eou__\nWhen ? __eou__ Now . __eou__\nWhere ? __eou__ Here . __eou__\nWhy ? __eou__";
  write_file(file, text + " Because . __eou__\n" + std::string(300, 'x') + " __eou__ What ? __eou__\n");
  task_options options;
  options.model = bundled_model();
  options.task = task_name::daily_dialog;
  options.text = file;
  options.budget = 64;
  const task_report report = run_tasks(options);
  EXPECT_EQ(report.left_out, 1U);
  EXPECT_EQ(report.dialogs, 4U);
  EXPECT_EQ(report.policies[0].accuracies[0].asked, 4U);
  EXPECT_NE(kvkeep_eval::to_table(report).find("left out: 1 turns"), std::string::npos);
}

TEST(Tasks, AnInterruptedRunShowsWhatItHas) {
  std::size_t turns = 0;
  const task_report report =
      run_tasks(small_grocery(), {.report = [&](const auto&) { ++turns; }, .stop = [&] { return turns >= 20; }});
  EXPECT_TRUE(report.interrupted);
  ASSERT_EQ(report.policies.size(), 2U);
  EXPECT_EQ(report.policies[0].turns, 18U);
  EXPECT_EQ(report.policies[1].turns, 2U);
}

TEST(Tasks, BadRequests) {
  const auto refused = [](const auto& change, const std::vector<std::string>& named) {
    task_options options = small_grocery();
    change(options);
    expect_failure([&] { static_cast<void>(run_tasks(options)); }, named);
  };
  refused([](task_options& o) { o.budget = 7; }, {"budget is 7; it must be from 8 to 1048576"});
  refused([](task_options& o) { o.dialogs = 0; }, {"dialogs is 0; it must be from 1 to 1000000"});
  refused([](task_options& o) { o.threads = 0; }, {"threads is 0; it must be from 1 to 1024"});
  refused([](task_options& o) { o.stem_words = 0; }, {"stem-words is 0; it must be from 1 to 512"});
  refused([](task_options& o) { o.text.clear(); }, {"text is not given; grocery reads one"});
  refused([](task_options& o) { o.task = task_name::rock_paper_scissors; },
          {"gettysburg.txt; rock_paper_scissors reads none"});
  refused([](task_options& o) { o.text = "nowhere"; }, {"nowhere: no such file"});
  refused([](task_options& o) { o.policies = {"nosuch"}; }, {"policy nosuch: unknown policy"});
  refused([](task_options& o) { o.policies = {"recompute:window=9"}; }, {"policy recompute:window=9: is no KV policy"});
  refused([](task_options& o) { o.budget = 20; },
          {"policy streaming_llm:sinks=4,window=16: a turn of up to 16 tokens fits beside its sinks"});
}

}  // namespace
}  // namespace kvkeep_eval_test
