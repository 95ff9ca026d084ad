#include "task_turn.hpp"

#include "failure.hpp"
#include "task_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

namespace kvkeep_eval {

namespace {

// How many pieces two encodings begin with alike.
std::size_t common_length(const std::vector<token>& a, const std::vector<token>& b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

std::size_t task_turn::most_tokens() const noexcept {
  std::size_t longest = 0;
  for (const std::vector<token>& choice : choices) {
    longest = std::max(longest, choice.size());
  }
  return prompt.size() + longest + end.size();
}

std::vector<token> line_end(const tokenizer& pieces) {
  const std::vector<token> without = pieces.encode_prompt("a");
  const std::vector<token> with = pieces.encode("a\n");
  if (common_length(without, with) < without.size()) {  // the newline is part of a larger piece
    return {};
  }
  return {with.begin() + static_cast<std::ptrdiff_t>(without.size()), with.end()};
}

token_range bracketed(const tokenizer& pieces, std::span<const token> tokens) {
  const std::string text = pieces.decode(tokens);
  const std::size_t open = text.rfind('[');
  const std::size_t close = text.rfind(']');
  token_range out;
  bool found = false;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::size_t begin = pieces.decode(tokens.first(i)).size();
    const std::size_t end = pieces.decode(tokens.first(i + 1)).size();
    if (begin < close && end > open + 1) {
      out.first = found ? out.first : i;
      out.last = i + 1;
      found = true;
    }
  }
  return out;
}

turn_maker::turn_maker(const tokenizer& pieces) : pieces_(pieces), end_(line_end(pieces)) {}

task_turn turn_maker::grocery(const question& q) const {
  if (q.choices.size() > 1) {
    return choosing(q.id.starts_with("answer") ? turn_kind::recall : turn_kind::distractor, q.stem + " ", q);
  }
  task_turn out;
  out.kind = turn_kind::statement;
  out.prompt = pieces_.encode_prompt(q.stem);
  out.end = end_;
  out.word = bracketed(pieces_, out.prompt);
  return out;
}

task_turn turn_maker::daily_dialog(const question& q) const { return choosing(turn_kind::reply, q.stem + "\n", q); }

task_turn turn_maker::rock_paper_scissors(const question& q, std::optional<std::size_t> last) const {
  const std::string prompt =
      last ? fmt::format(
                 "I chose [{}]. Analyze my preferences to maximize your winning rate and proceed to the next "
                 "round. Choices: (A) rock (B) paper (C) scissors. You choose: ",
                 hands[*last])
           : "Let's play a game of Rock-Paper-Scissors. Choose one option from: (A) rock (B) paper (C) scissors. ";
  task_turn out = choosing(turn_kind::round, prompt, q);
  out.user_choice = q.user_choice.value_or(0);
  return out;
}

task_turn turn_maker::choosing(turn_kind kind, const std::string& prompt, const question& q) const {
  task_turn out;
  out.kind = kind;
  out.answer = q.answer;
  out.end = end_;
  for (const std::string& choice : q.choices) {
    out.choices.push_back(pieces_.encode_prompt(prompt + choice));
  }
  std::size_t common = out.choices[0].size();
  std::size_t shortest = common;
  for (const std::vector<token>& choice : out.choices) {
    common = std::min(common, common_length(out.choices[0], choice));
    shortest = std::min(shortest, choice.size());
  }
  if (shortest == 0) {
    throw failure(fmt::format("question {}: the tokenizer has no pieces for a choice", q.id));
  }
  const auto prompt_tokens = static_cast<std::ptrdiff_t>(std::min(common, shortest - 1));
  out.prompt.assign(out.choices[0].begin(), out.choices[0].begin() + prompt_tokens);
  for (std::vector<token>& choice : out.choices) {
    choice.erase(choice.begin(), choice.begin() + prompt_tokens);
  }
  return out;
}

}  // namespace kvkeep_eval
