// The data of the tasks: what is drawn from a seed, its form, and DailyDialog's.
#include "task_data.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "question.hpp"
#include "random_source.hpp"
#include "support.hpp"
#include "text.hpp"

namespace kvkeep_eval_test {
namespace {

using kvkeep_eval::dialog;
using kvkeep_eval::goods_kind;
using kvkeep_eval::grocery_shape;
using kvkeep_eval::make_grocery;
using kvkeep_eval::make_rock_paper_scissors;
using kvkeep_eval::question;
using kvkeep_eval::random_source;
using kvkeep_eval::read_daily_dialog;

const std::string& text() {
  static const std::string all = kvkeep_eval::read_text(data_file("gettysburg.txt"));
  return all;
}

std::vector<dialog> groceries(const grocery_shape& shape) { return make_grocery(shape, text(), "t"); }

std::string in_brackets(const std::string& s) { return s.substr(s.find('['), s.find(']') - s.find('[') + 1); }

bool all_differ(const std::vector<std::string>& choices) {
  return std::set<std::string>(choices.begin(), choices.end()).size() == choices.size();
}

/// The text with one blank between words and none elsewhere.
std::string with_single_blanks(const std::string& s) {
  std::istringstream words(s);
  std::string out;
  for (std::string word; words >> word;) out += (out.empty() ? "" : " ") + word;
  return out;
}

TEST(RandomSource, IsItsSeedAndStream) {
  const auto drawn = [](std::uint64_t seed, std::uint64_t stream) {
    random_source random(seed, stream);
    std::vector<std::size_t> out(20);
    for (std::size_t& x : out) x = random.below(1000);
    return out;
  };
  EXPECT_EQ(drawn(1, 2), drawn(1, 2));
  EXPECT_NE(drawn(1, 2), drawn(2, 1));
  EXPECT_NE(drawn(1, 0), drawn(std::uint64_t{1} << 32U, 0));
  EXPECT_NE(drawn(0, 1), drawn(0, std::uint64_t{1} << 32U));
}

TEST(RandomSource, DrawsEvenly) {
  random_source random(3);
  std::array<std::size_t, 7> seen{};
  for (int i = 0; i < 7000; ++i) ++seen.at(random.below(7));
  for (const std::size_t count : seen) EXPECT_NEAR(static_cast<double>(count), 1000, 120);  // four standard deviations
  EXPECT_EQ(random.below(1), 0U);
}

TEST(Grocery, OneFactDistractorsAndOneQuestionForIt) {
  const std::vector<dialog> made = groceries({.dialogs = 9, .distractors = 3, .stem_words = 5, .seed = 4});
  ASSERT_EQ(made.size(), 9U);
  const std::string plain = with_single_blanks(text());
  for (std::size_t i = 0; i < made.size(); ++i) {
    const dialog& d = made[i];
    ASSERT_EQ(d.size(), 5U);
    EXPECT_EQ(d[0].id, "key_" + std::to_string(i));
    EXPECT_TRUE(d[0].stem.starts_with("I want you to buy for ")) << d[0].stem;
    EXPECT_EQ(d[0].choices, std::vector<std::string>{"OK"});
    EXPECT_EQ(d[4].id, "answer_" + std::to_string(i));
    EXPECT_TRUE(d[4].stem.starts_with("What GROCERY did ")) << d[4].stem;
    EXPECT_EQ(in_brackets(d[0].stem) + ".", d[4].choices.at(d[4].answer));
    const std::string name = d[0].stem.substr(22, d[0].stem.find(" the GROCERY") - 22);
    EXPECT_EQ(d[4].stem, "What GROCERY did " + name + " want? For " + name + " the GROCERY:");
    for (std::size_t n = 1; n < 5; ++n) {
      EXPECT_EQ(d[n].choices.size(), 4U);
      EXPECT_TRUE(all_differ(d[n].choices));
    }
    for (std::size_t n = 1; n < 4; ++n) {
      EXPECT_EQ(d[n].id, std::to_string(i));
      EXPECT_NE(plain.find(d[n].stem + " " + d[n].choices.at(d[n].answer)), std::string::npos) << d[n].stem;
    }
  }
}

TEST(Grocery, AnswersStandAnywhere) {
  std::array<std::size_t, 4> seen{};
  for (const dialog& d : groceries({.dialogs = 400, .distractors = 0, .stem_words = 5, .seed = 0})) {
    ++seen.at(d.back().answer);
  }
  for (const std::size_t count : seen) EXPECT_NEAR(static_cast<double>(count), 100, 36);
}

TEST(Grocery, ADialogDependsOnSeedAndNumberAlone) {
  const auto lines = [](const std::vector<dialog>& made) { return kvkeep_eval::to_json_lines(made); };
  const grocery_shape shape{.dialogs = 3, .distractors = 4, .stem_words = 6, .seed = 7};
  grocery_shape longer = shape;
  longer.dialogs = 5;
  grocery_shape other = shape;
  other.seed = 8;
  EXPECT_EQ(lines(groceries(shape)), lines(groceries(shape)));
  EXPECT_TRUE(lines(groceries(longer)).starts_with(lines(groceries(shape))));
  EXPECT_NE(lines(groceries(shape)), lines(groceries(other)));
}

TEST(Grocery, GoodsMayBeWordsOfTheText) {
  for (const dialog& d : groceries({.dialogs = 20, .distractors = 0, .goods = goods_kind::words, .seed = 0})) {
    const std::string word = in_brackets(d[0].stem).substr(1, in_brackets(d[0].stem).size() - 2);
    EXPECT_NE((" " + with_single_blanks(text()) + " ").find(" " + word + " "), std::string::npos) << word;
    EXPECT_TRUE(word.size() >= 4 && word.size() <= 9) << word;
  }
}

TEST(Grocery, TextsThatAreTooShort) {
  const auto make = [](const std::string& from, goods_kind goods) {
    static_cast<void>(
        make_grocery({.dialogs = 1, .distractors = 1, .stem_words = 6, .goods = goods}, from, "the/text"));
  };
  expect_failure([&] { make("one two three 4", goods_kind::groceries); },
                 {"the/text: has 3 words without digits", "stems of 6 need at least 18"});
  std::string same;
  for (int i = 0; i < 40; ++i) same += "same ";
  expect_failure([&] { make(same, goods_kind::groceries); }, {"the/text: repeats the same words"});
  expect_failure([&] { make(same, goods_kind::words); },
                 {"the/text: has 1 different words of 4 to 9 small letters; goods need at least 4"});
}

TEST(Questions, InTheAuthorsForm) {
  const question asked{
      .id = "answer_3", .stem = "Which \"one\"?", .choices = {"a", "b"}, .answer = 1, .user_choice = {}};
  const question round{.id = "12", .stem = "Play.", .choices = {"rock", "paper"}, .answer = 1, .user_choice = 0};
  const std::vector<dialog> both{{asked}, {round}};
  EXPECT_EQ(kvkeep_eval::to_json_lines(both),
            "{\"id\":\"answer_3\",\"question\":{\"stem\":\"Which \\\"one\\\"?\",\"choices\":[{\"text\":\"a\",\"label\":"
            "\"A\"},{\"text\":\"b\",\"label\":\"B\"}]},\"answerKey\":\"B\"}\n"
            "{\"id\":12,\"question\":{\"stem\":\"Play.\",\"choices\":[{\"text\":\"rock\",\"label\":\"A\"},{\"text\":"
            "\"paper\",\"label\":\"B\"}]},\"user_choice\":\"A\",\"answerKey\":\"B\"}\n");
}

TEST(RockPaperScissors, PlayersAreBiasedAndTheAnswerBeatsThem) {
  for (std::size_t favourite = 0; favourite < 3; ++favourite) {
    const dialog rounds = make_rock_paper_scissors(3000, favourite, 5);
    ASSERT_EQ(rounds.size(), 3000U);
    std::array<double, 3> played{};
    for (const question& q : rounds) {
      ++played.at(q.user_choice.value());
      const std::string hand = q.choices.at(*q.user_choice);
      EXPECT_EQ(q.choices.at(q.answer), hand == "rock" ? "paper" : hand == "paper" ? "scissors" : "rock");
    }
    EXPECT_NEAR(played.at(favourite), 1500, 110);  // four standard deviations
    EXPECT_NEAR(played.at((favourite + 1) % 3), 900, 101);
    EXPECT_NEAR(played.at((favourite + 2) % 3), 600, 88);
  }
  EXPECT_EQ(make_rock_paper_scissors(50, 0, 1)[49].id, "49");
  const auto lines = [](std::uint64_t seed) {
    return kvkeep_eval::to_json_lines(std::vector<dialog>{make_rock_paper_scissors(50, 0, seed)});
  };
  EXPECT_EQ(lines(1), lines(1));
  EXPECT_NE(lines(1), lines(2));
}

const char* const three_lines =
    "Is it raining ? __eou__ Not yet . __eou__ Shall we go ? __eou__ Yes , now . __eou__\n"
    " Where is my hat ?  __eou__ On the hook . __eou__ Which hook ? __eou__ The red one . __eou__ I see . __eou__\r\n"
    "How late is it ? __eou__ Past nine . __eou__ So late ? __eou__ It is . __eou__";

TEST(DailyDialog, EverySecondTurnAnswers) {
  const std::vector<dialog> read = read_daily_dialog(three_lines, "d", 1);
  ASSERT_EQ(read.size(), 3U);
  const std::vector<std::vector<std::string>> own{
      {"Not yet .", "Yes , now ."}, {"On the hook .", "The red one ."}, {"Past nine .", "It is ."}};
  EXPECT_EQ(read[1][0].stem, "Where is my hat ?");
  for (std::size_t line = 0; line < 3; ++line) {
    ASSERT_EQ(read[line].size(), 2U) << "the last turn of five has no answer";
    for (std::size_t n = 0; n < 2; ++n) {
      const question& q = read[line][n];
      EXPECT_EQ(q.id, std::to_string(line) + "_" + std::to_string(2 * n + 1));
      EXPECT_EQ(q.choices.at(q.answer), own[line][n]);
      EXPECT_EQ(q.choices.size(), 4U);
      EXPECT_TRUE(all_differ(q.choices));
      EXPECT_EQ(std::count(q.choices.begin(), q.choices.end(), own[line][1 - n]), 0) << "of the same dialog";
    }
  }
  EXPECT_EQ(kvkeep_eval::to_json_lines(read), kvkeep_eval::to_json_lines(read_daily_dialog(three_lines, "d", 1)));
  EXPECT_NE(kvkeep_eval::to_json_lines(read), kvkeep_eval::to_json_lines(read_daily_dialog(three_lines, "d", 2)));
}

TEST(DailyDialog, OtherForms) {
  const auto refused = [](const std::string& from, const std::vector<std::string>& named) {
    expect_failure([&] { static_cast<void>(read_daily_dialog(from, "the/file", 0)); }, named);
  };
  refused("A . __eou__ B . __eou__\nplain text\n", {"the/file: line 2: its last turn has no __eou__"});
  refused("A . __eou__ __eou__\n", {"the/file: line 1: its turn 2 has no text"});
  refused("A . __eou__ B . __eou__\n", {"the/file: has too few dialogs to choose 4 answers from"});
  refused("A . __eou__\nB . __eou__\n", {"the/file: has no dialog of two turns"});
}

}  // namespace
}  // namespace kvkeep_eval_test
