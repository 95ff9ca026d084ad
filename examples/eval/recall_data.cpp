#include "recall_data.hpp"

#include "failure.hpp"
#include "text_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace kvkeep_eval {

namespace {

constexpr std::size_t fewest_words = 100;  // of a text: its own, and short ones to be bought
constexpr std::size_t fewest_short_words = 4;
constexpr std::size_t key_digits = 5;

// The colours of the bundled model's training.
constexpr std::array<std::string_view, 8> trained_colours{"red",   "blue",  "green",  "amber",
                                                          "white", "black", "silver", "golden"};

// The text without words that have a digit, line by line.
std::string without_digits(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    const std::vector<std::string_view> words = words_of(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
    if (!words.empty()) {
      out += fmt::format("{}\n", fmt::join(words, " "));
    }
  }
  return out;
}

// Takes one of several out of their list.
std::string_view take_any(std::vector<std::string_view>& from, random_source& random) {
  const std::size_t at = random.below(from.size());
  const std::string_view taken = from[at];
  from.erase(from.begin() + static_cast<std::ptrdiff_t>(at));
  return taken;
}

std::string draw_key(bool distinct, random_source& random) {
  std::string digits = "0123456789";
  std::string out;
  for (std::size_t i = 0; i < key_digits; ++i) {
    const std::size_t at = random.below(digits.size());
    out += digits[at];
    if (distinct) {
      digits.erase(at, 1);
    }
  }
  return out;
}

void append(std::vector<token>& to, std::span<const token> tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

}  // namespace

std::string_view text_of(fact_kind kind) {
  switch (kind) {
    case fact_kind::grocery:
      return "grocery";
    case fact_kind::pass_key:
      return "pass_key";
    case fact_kind::distinct_key:
      break;
  }
  return "distinct_key";
}

document_maker::document_maker(const tokenizer& pieces, token begin_of_stream, std::string_view text,
                               const std::string& path, std::vector<fact_kind> kinds, std::uint64_t seed)
    : pieces_(pieces),
      begin_(begin_of_stream),
      path_(path),
      kinds_(std::move(kinds)),
      seed_(seed),
      end_(line_end(pieces)) {
  const std::vector<std::string_view> words = words_of(text);
  const std::vector<std::string_view> goods = short_words(words);
  if (words.size() < fewest_words || goods.size() < fewest_short_words) {
    throw failure(fmt::format(
        "{}: has {} words without digits, {} different ones of 4 to 9 small letters; documents need {} and {}", path_,
        words.size(), goods.size(), fewest_words, fewest_short_words));
  }
  words_.assign(goods.begin(), goods.end());
  filler_ = pieces_.encode(without_digits(text));
  for (const fact_kind kind : kinds_) {
    question_room_ += longest_question(kind) + most_answer_tokens + end_.size();
  }
}

recall_document document_maker::make(const document_place& place) const {
  // 2^20 documents of each of 128 depths, for every length.
  random_source random(seed_, (place.length << 27U) + (place.depth << 20U) + place.number);
  std::vector<std::string_view> names(trained_names.begin(), trained_names.end());
  std::vector<std::string_view> colours(trained_colours.begin(), trained_colours.end());
  std::vector<sentence> facts;
  std::size_t room = 1;  // of BOS and the facts
  for (const fact_kind kind : kinds_) {
    facts.push_back(draw(kind, names, colours, random));
    room += facts.back().tokens.size();
  }
  random.shuffle(facts);
  recall_document out;
  out.tokens.reserve(place.length + 1);
  out.tokens.push_back(begin_);
  std::size_t at = random.below(filler_.size());
  const auto fill = [&](std::size_t tokens) {
    for (; tokens > 0; --tokens) {
      out.tokens.push_back(filler_[at]);
      at = at + 1 < filler_.size() ? at + 1 : 0;
    }
  };
  if (place.length < room + end_.size()) {
    throw failure(fmt::format("length is {}; its facts alone have {} tokens", place.length, room + end_.size()));
  }
  const std::size_t filler = place.length - room;
  const std::size_t before = (filler * place.depth + 50) / 100;
  // The line before the facts ends where they begin.
  fill(before - std::min(before, end_.size()));
  append(out.tokens, std::span(end_).first(std::min(before, end_.size())));
  for (const sentence& each : facts) {
    hidden_fact fact = each.fact;
    fact.fact = {out.tokens.size(), out.tokens.size() + each.tokens.size()};
    fact.word = {fact.fact.first + each.fact.word.first, fact.fact.first + each.fact.word.last};
    append(out.tokens, each.tokens);
    out.questions.push_back(std::move(fact));
  }
  fill(place.length - out.tokens.size());
  random.shuffle(out.questions);
  return out;
}

document_maker::sentence document_maker::draw(fact_kind kind, std::vector<std::string_view>& names,
                                              std::vector<std::string_view>& colours, random_source& random) const {
  if (kind == fact_kind::grocery) {
    const std::string_view name = take_any(names, random);
    return say(kind, name, words_[random.below(words_.size())]);
  }
  const std::string_view colour = take_any(colours, random);
  return say(kind, colour, draw_key(kind == fact_kind::distinct_key, random));
}

document_maker::sentence document_maker::say(fact_kind kind, std::string_view of, const std::string& answer) const {
  const bool grocery = kind == fact_kind::grocery;
  const std::string told = grocery ? fmt::format("I want you to buy for {} the GROCERY: [{}].\n", of, answer)
                                   : fmt::format("The {} pass key is [{}].\n", of, answer);
  sentence out;
  out.tokens = pieces_.encode(told);
  out.fact.kind = kind;
  out.fact.answer = answer;
  out.fact.word = bracketed(pieces_, out.tokens);
  out.fact.stem = grocery ? fmt::format("What GROCERY did {0} want? For {0} the GROCERY: ", of)
                          : fmt::format("What is the {0} pass key? The {0} pass key is ", of);
  const std::vector<token> line = pieces_.encode_prompt(fmt::format("{}[{}].", out.fact.stem, answer));
  const token_range word = bracketed(pieces_, line);
  const std::span<const token> all(line);
  append(out.fact.prompt, all.first(word.first));
  append(out.fact.answers, all.subspan(word.first, word.last - word.first));
  if (out.fact.prompt.empty() || out.fact.answers.empty() || out.fact.answers.size() >= most_answer_tokens) {
    throw failure(fmt::format("{} tokens of the tokenizer are '{}]'; an answer has from 1 to {}",
                              out.fact.answers.size(), answer, most_answer_tokens - 1));
  }
  return out;
}

std::size_t document_maker::longest_question(fact_kind kind) const {
  std::size_t longest = 0;
  const auto look = [&](std::string_view of, const std::string& answer) {
    longest = std::max(longest, say(kind, of, answer).fact.prompt.size());
  };
  if (kind == fact_kind::grocery) {
    for (const std::string_view name : trained_names) {
      look(name, words_[0]);
    }
  } else {
    for (const std::string_view colour : trained_colours) {
      look(colour, "01234");
    }
  }
  return longest;
}

}  // namespace kvkeep_eval
