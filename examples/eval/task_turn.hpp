#ifndef KVKEEP_EVAL_TASK_TURN_HPP
#define KVKEEP_EVAL_TASK_TURN_HPP

#include "question.hpp"
#include "tokenizer.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kvkeep_eval {

// What a turn is for.
enum class turn_kind : std::uint8_t { statement, distractor, recall, reply, round };

// A part of some tokens.
struct token_range {
  std::size_t first = 0;
  std::size_t last = 0;  // one past its end
};

// A turn as the model reads it: the prompt, one of the choices, the end.
struct task_turn {
  turn_kind kind = turn_kind::statement;
  std::vector<token> prompt;                // what the choices have in common
  std::vector<std::vector<token>> choices;  // none of a statement, else each at least one token
  std::vector<token> end;                   // the line's end
  std::size_t answer = 0;
  std::size_t user_choice = 0;  // of a round
  token_range word;             // of a statement's prompt: what is in brackets

  // Of the prompt, the longest choice and the end.
  [[nodiscard]] std::size_t most_tokens() const noexcept;
};

// The pieces that end a line; none if the tokenizer makes a newline part of a larger piece.
[[nodiscard]] std::vector<token> line_end(const tokenizer& pieces);

// The tokens whose text lies, at least in part, between the last brackets of the text.
[[nodiscard]] token_range bracketed(const tokenizer& pieces, std::span<const token> tokens);

// Questions made turns; refers to the tokenizer. A choice follows the stem as text would, and is scored as text: no letters
// stand for it. Prompt and choice are encoded together, so that no piece is one that the model does not know there.
class turn_maker {
 public:
  explicit turn_maker(const tokenizer& pieces);

  // Of Grocery Shopping: a line each, "STEM CHOICE". The fact is a statement that nobody answers.
  [[nodiscard]] task_turn grocery(const question& q) const;
  // Of DailyDialog: a line for the stem and one for the choice.
  [[nodiscard]] task_turn daily_dialog(const question& q) const;
  // Of Rock-Paper-Scissors: a line, the authors' prompt; `last` is what the user played in the round before.
  [[nodiscard]] task_turn rock_paper_scissors(const question& q, std::optional<std::size_t> last) const;

 private:
  [[nodiscard]] task_turn choosing(turn_kind kind, const std::string& prompt, const question& q) const;

  const tokenizer& pieces_;
  std::vector<token> end_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TASK_TURN_HPP
