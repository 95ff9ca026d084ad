#include "recall_run.hpp"

#include "model_stream.hpp"
#include "policy_step.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>

namespace kvkeep_eval {

namespace {

// The rank of what holds a position among what a layer's newest query retrieved, for the chooser who ranks it best; 1 is the
// best, 0 if nobody chose it.
std::size_t rank_of(const std::vector<kvkeep::retrieved_tokens>& retrieved, kvkeep::position at) {
  std::size_t best = 0;
  std::size_t rank = 0;
  std::optional<std::size_t> chooser;
  for (const kvkeep::retrieved_tokens& each : retrieved) {
    rank = chooser == each.chooser ? rank + 1 : 1;
    chooser = each.chooser;
    if (each.first <= at && at < each.last) {
      best = best == 0 ? rank : std::min(best, rank);
    }
  }
  return best;
}

// A document that is being read, and its questions.
class reading {
 public:
  reading(const recall_input& input, const kvkeep::any_policy& policy, const std::string& spec, std::size_t done)
      : input_(input),
        stream_(input.model, policy, input.chunk, spec, tiers_for(input.tiers, policy, input.io)),
        before_(done) {}

  // False if the user had enough.
  [[nodiscard]] bool read(std::span<const token> tokens, std::size_t most) {
    for (std::size_t first = 0; first < tokens.size();) {
      if (input_.stop && input_.stop()) {
        return false;
      }
      const std::size_t count = std::min({most, stream_.longest_step(), tokens.size() - first});
      stream_.read(tokens.subspan(first, count));
      first += count;
      tokens_ += count;
      if (input_.report) {
        input_.report(before_ + tokens_);
      }
    }
    return true;
  }

  // Asks for a fact and notes how it was answered, what was held and what was retrieved; false if the user had enough.
  [[nodiscard]] bool ask(const hidden_fact& asked, recall_point& point) {
    if (!read(asked.prompt, 1)) {
      return false;
    }
    const bool held = holds(asked.word);
    point.held.add(held);
    point.layers.resize(input_.model.config().layers);
    std::vector<token> line = asked.prompt;
    given_answer given;
    bool right = true;  // so far
    while (!given.closed && line.size() < asked.prompt.size() + most_answer_tokens) {
      const std::size_t at = line.size() - asked.prompt.size();
      const token next = stream_.most_likely();
      line.push_back(next);
      given = answer_in(asked, line);
      const bool fits =
          at < asked.answers.size() ? next == asked.answers[at] : given.closed && given.text == asked.answer;
      if (at == 0) {
        point.first.add(fits);
      }
      if (!held && right) {
        note_lookups(asked, at, !fits, point);
      }
      right = right && fits;
      if (!read({&next, 1}, 1)) {
        return false;
      }
    }
    point.whole.add(given.closed && given.text == asked.answer);
    point.answers.push_back({asked.answer, given.text});
    return read(input_.documents.end(), 1);
  }

  [[nodiscard]] std::size_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::size_t kv_bytes() const noexcept {
    return stream_.cache().bytes().keys + stream_.cache().bytes().values;
  }
  [[nodiscard]] tier_use tiers() const { return tier_use_of(stream_.cache()); }
  // Whether a question met something retrieved.
  [[nodiscard]] bool retrieved() const noexcept { return retrieved_; }

 private:
  [[nodiscard]] bool holds(const token_range& word) const {
    const std::vector<kvkeep::position> held = held_anywhere(stream_.cache());
    const auto found = std::lower_bound(held.begin(), held.end(), static_cast<kvkeep::position>(word.first));
    const auto count = static_cast<std::ptrdiff_t>(word.last - word.first);
    return held.end() - found >= count && *(found + count - 1) == static_cast<kvkeep::position>(word.last - 1);
  }

  // The query just attended was to find token number `at` of the answer, or the bracket behind it, and all before were right.
  void note_lookups(const hidden_fact& asked, std::size_t at, bool wrong, recall_point& point) {
    // The fact has the answer's tokens, but for a tokenizer that cuts the two sentences differently.
    const std::size_t wanted = std::min(asked.word.first + at, asked.fact.last - 1);
    for (std::size_t layer = 0; layer < point.layers.size(); ++layer) {
      const std::vector<kvkeep::retrieved_tokens> retrieved = stream_.cache().retrieved(layer);
      const std::size_t rank = rank_of(retrieved, static_cast<kvkeep::position>(wanted));
      retrieved_ = retrieved_ || !retrieved.empty();
      if (at == 0) {
        point.layers[layer].first.add(rank > 0);
        point.layers[layer].rank += static_cast<double>(rank);
      }
      if (wrong) {
        point.layers[layer].wrong.add(rank > 0);
      }
    }
  }

  // The answer that ends a line so far.
  struct given_answer {
    std::string text;
    bool closed = false;  // by its bracket
  };
  [[nodiscard]] given_answer answer_in(const hidden_fact& asked, std::span<const token> line) const {
    const std::string text = input_.pieces.decode(line);
    const std::size_t begin = std::min(asked.stem.size() + 1, text.size());
    const std::size_t end = std::min(text.find(']', begin), text.size());
    return {text.substr(begin, end - begin), end < text.size()};
  }

  const recall_input& input_;
  model_stream stream_;
  std::size_t before_;      // tokens of earlier documents
  std::size_t tokens_ = 0;  // of this one
  bool retrieved_ = false;
};

// The points of a result, all empty.
std::vector<recall_point> empty_points(const recall_input& input) {
  std::vector<recall_point> out;
  for (const std::size_t depth : input.depths) {
    for (const std::string& kind : input.kinds) {
      recall_point point;
      point.kind = kind;
      point.depth = depth;
      point.layers.resize(input.model.config().layers);
      out.push_back(point);
    }
  }
  return out;
}

}  // namespace

recall_result run_recall(const recall_input& input, const kvkeep::any_policy& policy, const std::string& spec) {
  recall_result out;
  out.spec = spec;
  out.length = input.length;
  out.points = empty_points(input);
  std::chrono::duration<double> seconds{0};
  // Documents of all depths come in turn: what an interruption leaves is of all of them.
  for (std::size_t number = 0; number < input.per_depth; ++number) {
    for (std::size_t i = 0; i < input.depths.size(); ++i) {
      const recall_document document =
          input.documents.make({.length = input.length, .depth = input.depths[i], .number = number});
      const auto begin = std::chrono::steady_clock::now();
      reading now(input, reseeded(policy, out.documents), spec, out.tokens);
      std::vector<recall_point> asked(out.points.begin() + static_cast<std::ptrdiff_t>(i * input.kinds.size()),
                                      out.points.begin() + static_cast<std::ptrdiff_t>((i + 1) * input.kinds.size()));
      bool going = now.read(document.tokens, input.chunk);
      for (const hidden_fact& question : document.questions) {
        const auto point = std::find_if(asked.begin(), asked.end(),
                                        [&](const recall_point& p) { return p.kind == text_of(question.kind); });
        going = going && now.ask(question, *point);
      }
      if (!going) {
        out.tokens_per_second = static_cast<double>(out.tokens) / std::max(seconds.count(), 1e-9);
        return out;
      }
      std::copy(asked.begin(), asked.end(), out.points.begin() + static_cast<std::ptrdiff_t>(i * input.kinds.size()));
      seconds += std::chrono::steady_clock::now() - begin;
      out.tokens += now.tokens();
      out.kv_bytes = now.kv_bytes();
      out.tiers.add(now.tiers());
      out.retrieves = out.retrieves || now.retrieved();
      ++out.documents;
    }
  }
  out.tokens_per_second = static_cast<double>(out.tokens) / std::max(seconds.count(), 1e-9);
  return out;
}

}  // namespace kvkeep_eval
