#ifndef KVKEEP_EVAL_RECALL_DATA_HPP
#define KVKEEP_EVAL_RECALL_DATA_HPP

#include "random_source.hpp"
#include "task_turn.hpp"
#include "tokenizer.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

// What kind of fact is hidden: sentences of the bundled model's training, with the answer in brackets.
enum class fact_kind : std::uint8_t {
  grocery,       // I want you to buy for NAME the GROCERY: [WORD].
  pass_key,      // The COLOUR pass key is [DDDDD].
  distinct_key,  // the same, of five different digits
};

inline constexpr fact_kind fact_kinds[] = {fact_kind::grocery, fact_kind::pass_key, fact_kind::distinct_key};

[[nodiscard]] std::string_view text_of(fact_kind kind);

// The most tokens that an answer may have: the longest word in brackets has fewer.
inline constexpr std::size_t most_answer_tokens = 16;

// A fact of a document and the question for it.
struct hidden_fact {
  fact_kind kind = fact_kind::grocery;
  std::string answer;          // the text in brackets
  token_range fact;            // the sentence's tokens in the document
  token_range word;            // those of them that hold the answer
  std::vector<token> prompt;   // the question, as far as the answer
  std::string stem;            // its text, without the bracket that ends it
  std::vector<token> answers;  // the tokens of the answer, in a line of the question's
};

// A text of a given length with hidden facts, and the questions for them in the order in which they are asked.
struct recall_document {
  std::vector<token> tokens;
  std::vector<hidden_fact> questions;
};

// What document is wanted. The same place gives the same document, whatever others are made.
struct document_place {
  std::size_t length = 0;  // tokens, BOS included
  std::size_t depth = 0;   // percent of the text before the facts
  std::size_t number = 0;
};

// Makes documents: BOS, then words of a text without digits from a random place on, from its begin again where it ends, and
// at some depth one fact of each kind, in random order, each a line. Refers to the tokenizer. Facts and questions are encoded
// in whole lines, as in training.
class document_maker {
 public:
  // A failure that begins with `path` if the text has too few words. `kinds` are all different.
  document_maker(const tokenizer& pieces, token begin_of_stream, std::string_view text, const std::string& path,
                 std::vector<fact_kind> kinds, std::uint64_t seed);

  // A failure if the facts are longer than the document.
  [[nodiscard]] recall_document make(const document_place& place) const;
  // The most tokens that all questions of a document can have, with their answers.
  [[nodiscard]] std::size_t question_room() const noexcept { return question_room_; }
  // The pieces that end a line.
  [[nodiscard]] const std::vector<token>& end() const noexcept { return end_; }

 private:
  // A fact that is in no document yet: `word` counts from the sentence's first token.
  struct sentence {
    std::vector<token> tokens;
    hidden_fact fact;
  };
  // Takes the name or the colour from those that are left: two facts of a document never speak of the same.
  [[nodiscard]] sentence draw(fact_kind kind, std::vector<std::string_view>& names,
                              std::vector<std::string_view>& colours, random_source& random) const;
  [[nodiscard]] sentence say(fact_kind kind, std::string_view of, const std::string& answer) const;
  [[nodiscard]] std::size_t longest_question(fact_kind kind) const;

  const tokenizer& pieces_;
  token begin_;
  std::string path_;
  std::vector<fact_kind> kinds_;
  std::uint64_t seed_;
  std::vector<token> end_;
  std::vector<token> filler_;       // the whole text
  std::vector<std::string> words_;  // for groceries
  std::size_t question_room_ = 0;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_RECALL_DATA_HPP
