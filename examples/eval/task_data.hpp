#ifndef KVKEEP_EVAL_TASK_DATA_HPP
#define KVKEEP_EVAL_TASK_DATA_HPP

#include "question.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

// The data of the three tasks of Yao, Li, Zhao, "SirLLM: Streaming Infinite Retentive LLM", ACL 2024, arXiv 2405.12528,
// section 4. The same arguments make the same data everywhere.

// How many choices a question has.
inline constexpr std::size_t choice_count = 4;

// What is bought.
enum class goods_kind : std::uint8_t {
  groceries,  // one of 60
  words,      // a word of the text of 4 to 9 small letters, as in the bundled model's training
};

// What Grocery Shopping dialogs are made of.
struct grocery_shape {
  std::size_t dialogs = 1;
  std::size_t distractors = 20;  // turns between the fact and the question for it
  std::size_t stem_words = 6;    // of a distractor, >= 1
  goods_kind goods = goods_kind::groceries;
  std::uint64_t seed = 0;
};

// Dialogs of one fact (id key_N), distractors (N) and one recall with four goods to choose from (answer_N): dialog N depends
// on no other. A distractor is some words of `text`, to be continued by the three that follow there or by three from
// elsewhere; each begins where the one before ended. Words with a digit, such as the numbers of verses, are left out.
// A failure, which begins with `path`, if the text has too few words.
[[nodiscard]] std::vector<dialog> make_grocery(const grocery_shape& shape, std::string_view text,
                                               const std::string& path);

// Rock, paper and scissors; each loses to the next.
inline constexpr std::string_view hands[] = {"rock", "paper", "scissors"};
inline constexpr std::size_t hand_count = 3;

// Rounds against a player who plays `favourite`, a number of a hand, with probability 0.5, the next hand with 0.3 and the
// one after that with 0.2. The answer is the hand that beats the player's.
[[nodiscard]] dialog make_rock_paper_scissors(std::size_t rounds, std::size_t favourite, std::uint64_t seed);

// DailyDialog (Li et al., IJCNLP 2017) as 4-way choice: `text` has a dialog a line, whose turns end with __eou__. Every
// second turn answers the one before; the other three choices are answers of other lines. The id is LINE_TURN, from 0.
// A failure, which begins with `path` and names the line, where the text has another form.
[[nodiscard]] std::vector<dialog> read_daily_dialog(std::string_view text, const std::string& path, std::uint64_t seed);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASK_DATA_HPP
