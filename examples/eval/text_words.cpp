#include "text_words.hpp"

#include <algorithm>

namespace kvkeep_eval {

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::size_t first = text.find_first_not_of(white_space); first != std::string_view::npos;) {
    const std::size_t last = std::min(text.find_first_of(white_space, first), text.size());
    const std::string_view word = text.substr(first, last - first);
    if (word.find_first_of("0123456789") == std::string_view::npos) {
      out.push_back(word);
    }
    first = text.find_first_not_of(white_space, last);
  }
  return out;
}

std::vector<std::string_view> short_words(std::vector<std::string_view> words) {
  std::erase_if(words, [](std::string_view word) {
    return word.size() < 4 || word.size() > 9 ||
           word.find_first_not_of("abcdefghijklmnopqrstuvwxyz") != std::string_view::npos;
  });
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

}  // namespace kvkeep_eval
