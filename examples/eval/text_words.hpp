#ifndef KVKEEP_EVAL_TEXT_WORDS_HPP
#define KVKEEP_EVAL_TEXT_WORDS_HPP

#include <array>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

// What separates words.
inline constexpr std::string_view white_space = " \t\r\n\v\f";

// The names of the bundled model's training.
inline constexpr std::array<std::string_view, 20> trained_names{
    "Anna", "Brutus", "Clara", "David", "Esther", "Felix", "Grace", "Henry", "Isaac",  "Julia",
    "Kate", "Luke",   "Mary",  "Noah",  "Oliver", "Peter", "Ruth",  "Simon", "Thomas", "Walter"};

// The words of a text in their order, without those that have a digit, such as the numbers of verses.
[[nodiscard]] std::vector<std::string_view> words_of(std::string_view text);

// Of these words, the different ones of four to nine small letters, sorted: the goods of the bundled model's training.
[[nodiscard]] std::vector<std::string_view> short_words(std::vector<std::string_view> words);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TEXT_WORDS_HPP
