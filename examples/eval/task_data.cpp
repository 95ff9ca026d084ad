#include "task_data.hpp"

#include "failure.hpp"
#include "random_source.hpp"
#include "text_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace kvkeep_eval {

namespace {

constexpr std::size_t continuation_words = 3;

constexpr std::array<std::string_view, 60> groceries{
    "almonds",   "apples",   "apricots", "asparagus", "bacon",   "bananas",  "basil",    "beans",    "beef",
    "biscuits",  "bread",    "broccoli", "butter",    "cabbage", "carrots",  "cheese",   "cherries", "chicken",
    "chocolate", "cinnamon", "coffee",   "crackers",  "cream",   "cucumber", "eggs",     "flour",    "garlic",
    "ginger",    "grapes",   "honey",    "ketchup",   "lemons",  "lettuce",  "lentils",  "mangoes",  "milk",
    "mushrooms", "mustard",  "noodles",  "oatmeal",   "olives",  "onions",   "oranges",  "pasta",    "peaches",
    "pepper",    "pickles",  "potatoes", "raisins",   "rice",    "salmon",   "sausages", "spinach",  "sugar",
    "tea",       "tomatoes", "vanilla",  "vinegar",   "walnuts", "yogurt"};

std::string joined(const std::vector<std::string_view>& words, std::size_t first, std::size_t count) {
  return fmt::format("{}", fmt::join(words.begin() + static_cast<std::ptrdiff_t>(first),
                                     words.begin() + static_cast<std::ptrdiff_t>(first + count), " "));
}

// Puts the answer, which comes first in `choices`, at a random place.
void place_answer(question& q, random_source& random) {
  q.answer = random.below(q.choices.size());
  std::swap(q.choices[0], q.choices[q.answer]);
}

// Adds what `draw` gives until there are four choices, all different; nothing if `draw` gives the same again and again.
template <class Draw>
[[nodiscard]] bool fill_choices(std::vector<std::string>& choices, const Draw& draw) {
  constexpr std::size_t most_draws = 1000;
  for (std::size_t i = 0; i < most_draws && choices.size() < choice_count; ++i) {
    std::string drawn = draw();
    if (std::find(choices.begin(), choices.end(), drawn) == choices.end()) {
      choices.push_back(std::move(drawn));
    }
  }
  return choices.size() == choice_count;
}

// What every grocery dialog is made from.
struct grocery_source {
  std::vector<std::string_view> words;  // of the text
  std::vector<std::string_view> goods;
  const std::string& path;
};

// The distractor whose stem begins with word number `at`.
question distractor(const grocery_source& source, std::size_t at, std::size_t stem_words, random_source& random) {
  const std::size_t places = source.words.size() - stem_words - continuation_words + 1;
  question out{.id = {}, .stem = joined(source.words, at, stem_words), .choices = {}, .answer = 0, .user_choice = {}};
  out.choices.push_back(joined(source.words, at + stem_words, continuation_words));
  const auto draw = [&] { return joined(source.words, stem_words + random.below(places), continuation_words); };
  if (!fill_choices(out.choices, draw)) {
    throw failure(fmt::format("{}: repeats the same words again and again", source.path));
  }
  place_answer(out, random);
  return out;
}

dialog grocery_dialog(const grocery_shape& shape, std::size_t number, const grocery_source& source) {
  random_source random(shape.seed, number);
  const std::string_view name = trained_names[random.below(trained_names.size())];
  std::vector<std::string> bought;
  if (!fill_choices(bought, [&] { return fmt::format("[{}].", source.goods[random.below(source.goods.size())]); })) {
    throw failure(fmt::format("{}: has too few different words to choose goods from", source.path));
  }
  dialog out;
  out.push_back({.id = fmt::format("key_{}", number),
                 .stem = fmt::format("I want you to buy for {} the GROCERY: {}", name, bought[0]),
                 .choices = {"OK"},
                 .answer = 0,
                 .user_choice = {}});
  const std::size_t turn_words = shape.stem_words + continuation_words;
  const std::size_t places = source.words.size() - turn_words + 1;
  std::size_t at = random.below(places);
  for (std::size_t i = 0; i < shape.distractors; ++i) {
    out.push_back(distractor(source, at, shape.stem_words, random));
    out.back().id = fmt::format("{}", number);
    at = at + turn_words < places ? at + turn_words : 0;
  }
  question recall{.id = fmt::format("answer_{}", number),
                  .stem = fmt::format("What GROCERY did {0} want? For {0} the GROCERY:", name),
                  .choices = std::move(bought),
                  .answer = 0,
                  .user_choice = {}};
  place_answer(recall, random);
  out.push_back(std::move(recall));
  return out;
}

// The turns of a line, without the blanks around them.
std::vector<std::string> turns_of(std::string_view line, const std::string& where) {
  constexpr std::string_view end = "__eou__";
  std::vector<std::string> out;
  while (line.find_first_not_of(white_space) != std::string_view::npos) {
    const std::size_t length = line.find(end);
    if (length == std::string_view::npos) {
      throw failure(fmt::format("{}: its last turn has no {}", where, end));
    }
    const std::string_view turn = line.substr(0, length);
    const std::size_t first = turn.find_first_not_of(white_space);
    if (first == std::string_view::npos) {
      throw failure(fmt::format("{}: its turn {} has no text", where, out.size() + 1));
    }
    out.emplace_back(turn.substr(first, turn.find_last_not_of(white_space) - first + 1));
    line.remove_prefix(length + end.size());
  }
  return out;
}

}  // namespace

std::vector<dialog> make_grocery(const grocery_shape& shape, std::string_view text, const std::string& path) {
  grocery_source source{.words = words_of(text), .goods = {groceries.begin(), groceries.end()}, .path = path};
  const std::size_t needed = choice_count * continuation_words + shape.stem_words;
  if (source.words.size() < needed) {
    throw failure(fmt::format("{}: has {} words without digits; distractors with stems of {} need at least {}", path,
                              source.words.size(), shape.stem_words, needed));
  }
  if (shape.goods == goods_kind::words) {
    source.goods = short_words(source.words);
    if (source.goods.size() < choice_count) {
      throw failure(fmt::format("{}: has {} different words of 4 to 9 small letters; goods need at least {}", path,
                                source.goods.size(), choice_count));
    }
  }
  std::vector<dialog> out;
  for (std::size_t i = 0; i < shape.dialogs; ++i) {
    out.push_back(grocery_dialog(shape, i, source));
  }
  return out;
}

dialog make_rock_paper_scissors(std::size_t rounds, std::size_t favourite, std::uint64_t seed) {
  random_source random(seed, favourite);
  dialog out;
  for (std::size_t i = 0; i < rounds; ++i) {
    const std::size_t drawn = random.below(10);
    const std::size_t played = (favourite + (drawn < 5 ? 0U : drawn < 8 ? 1U : 2U)) % hand_count;
    out.push_back({.id = fmt::format("{}", i),
                   .stem = "Please play a game of Rock-Paper-Scissors.",
                   .choices = {std::begin(hands), std::end(hands)},
                   .answer = (played + 1) % hand_count,
                   .user_choice = played});
  }
  return out;
}

std::vector<dialog> read_daily_dialog(std::string_view text, const std::string& path, std::uint64_t seed) {
  std::vector<std::vector<std::string>> lines;
  std::vector<std::pair<std::size_t, std::size_t>> answers;  // line and turn
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    std::vector<std::string> turns = turns_of(text.substr(0, length), fmt::format("{}: line {}", path, number));
    text.remove_prefix(std::min(length + 1, text.size()));
    for (std::size_t turn = 1; turn < turns.size(); turn += 2) {
      answers.emplace_back(lines.size(), turn);
    }
    lines.push_back(std::move(turns));
  }
  std::vector<dialog> out(lines.size());
  for (const auto& [line, turn] : answers) {
    random_source random(seed, line << 20U | turn);
    question q{.id = fmt::format("{}_{}", line, turn),
               .stem = lines[line][turn - 1],
               .choices = {lines[line][turn]},
               .answer = 0,
               .user_choice = {}};
    const auto draw = [&, own = line] {
      const auto [other, at] = answers[random.below(answers.size())];
      return other == own ? q.choices[0] : lines[other][at];  // the own is there already
    };
    if (!fill_choices(q.choices, draw)) {
      throw failure(fmt::format("{}: has too few dialogs to choose {} answers from", path, choice_count));
    }
    place_answer(q, random);
    out[line].push_back(std::move(q));
  }
  std::erase_if(out, [](const dialog& d) { return d.empty(); });
  if (out.empty()) {
    throw failure(fmt::format("{}: has no dialog of two turns", path));
  }
  return out;
}

}  // namespace kvkeep_eval
