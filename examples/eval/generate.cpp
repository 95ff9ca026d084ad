#include "generate.hpp"

#include "checkpoint.hpp"
#include "contestant.hpp"
#include "failure.hpp"
#include "model_stream.hpp"
#include "option_range.hpp"
#include "policy_step.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace kvkeep_eval {

namespace {

constexpr std::size_t prompt_chunk = 512;                  // tokens of the prompt per step
constexpr std::size_t most_tokens = std::size_t{1} << 32;  // of the prompt and its continuation

// Text that grows token by token, in whole characters: bytes of an unfinished one wait for the rest.
class growing_text {
 public:
  explicit growing_text(const tokenizer& pieces) : pieces_(pieces) {}

  // What `next` adds to the text, or nothing yet.
  [[nodiscard]] std::string push(token next) {
    window_.push_back(next);
    const std::string text = pieces_.decode(window_);
    if (text.ends_with("\xef\xbf\xbd") && window_.size() < longest_wait) {
      return {};  // the replacement character: some bytes are missing
    }
    return take(text);
  }

  // What still waited for more bytes.
  [[nodiscard]] std::string finish() { return take(pieces_.decode(window_)); }

 private:
  static constexpr std::size_t longest_wait = 8;  // tokens; a character has at most four bytes

  // The last token stays in the window: it keeps the blank before the next one.
  std::string take(const std::string& text) {
    std::string fresh = text.substr(std::min(shown_, text.size()));
    if (!window_.empty()) {
      window_.erase(window_.begin(), window_.end() - 1);
    }
    shown_ = pieces_.decode(window_).size();
    return fresh;
  }

  const tokenizer& pieces_;
  std::vector<token> window_;  // the last token whose text is out, and those whose text is not
  std::size_t shown_ = 0;      // bytes of the window's text that are out
};

void check_options(const generate_options& options) {
  check_range("tokens", options.tokens, 1, most_tokens);
  check_range("threads", options.threads, 1, most_threads);
  if (options.policy.starts_with(recompute::name)) {
    throw failure(fmt::format("policy {}: is no KV policy but an oracle of `compare`", options.policy));
  }
  if (const auto at = first_invalid_utf8(options.prompt)) {
    throw failure(fmt::format("the prompt is not UTF-8 text (byte {})", *at));
  }
}

}  // namespace

void generate(const generate_options& options, const std::function<void(std::string_view)>& print,
              const std::function<bool()>& stop) {
  check_options(options);
  const checkpoint source(options.model, options.tokenizer);
  std::vector<token> prompt = source.pieces().encode_prompt(options.prompt);
  prompt.insert(prompt.begin(), source.begin_of_stream());
  const std::size_t length = prompt.size() + options.tokens - 1;  // the last token is not fed back
  const kvkeep::any_policy policy =
      value_or_fail(kvkeep::try_parse_policy(options.policy, {.max_tokens = length}), options.policy);
  check_room(policy, length, options.policy);
  const std::size_t chunk = std::min(prompt_chunk, prompt.size());
  static_cast<void>(make_model_cache(source.config(), policy, chunk, options.threads, options.policy));  // it fits
  const llama model = source.load(options.threads);
  model_stream stream(model, policy, chunk, options.policy);

  growing_text text(source.pieces());
  const auto show = [&](token next) { print(text.push(next)); };
  std::for_each(prompt.begin() + 1, prompt.end(), show);

  for (std::span<const token> rest(prompt); !rest.empty();) {
    const std::size_t count = std::min(stream.longest_step(), rest.size());
    stream.read(rest.first(count));
    rest = rest.subspan(count);
  }
  for (std::size_t made = 1; !(stop && stop()); ++made) {
    const token next = stream.most_likely();
    if (source.ends_stream(next)) {
      break;
    }
    show(next);
    if (made == options.tokens) {
      break;
    }
    stream.read({&next, 1});
  }
  print(text.finish());
}

}  // namespace kvkeep_eval
