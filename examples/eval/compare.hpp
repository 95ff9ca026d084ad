#ifndef KVKEEP_EVAL_COMPARE_HPP
#define KVKEEP_EVAL_COMPARE_HPP

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvkeep_eval {

// The most tokens a step may have.
inline constexpr std::size_t largest_chunk = 512;

// What `kvkeep-eval compare` is asked to do.
struct compare_options {
  std::filesystem::path model;  // a directory: config.json, model.safetensors, tokenizer.model
  std::filesystem::path text;
  std::size_t tokens = 0;             // of the text, without BOS
  std::vector<std::string> policies;  // specs, in the order of the report
  std::size_t chunk = largest_chunk;  // tokens per step
};

// One policy's row of the report.
struct policy_result {
  std::string spec;
  std::size_t kept_tokens = 0;  // held after the last step
  std::size_t kv_bytes = 0;
  double perplexity = 0;
  std::optional<double> perplexity_beyond_trained;  // nothing if the stream is no longer than the trained length
  double tokens_per_second = 0;
};

// The whole report.
struct comparison {
  std::string machine;
  std::string model;
  std::size_t tokens = 0;
  std::size_t trained_length = 0;
  std::vector<policy_result> policies;
};

// How far a comparison is: token `done` of `total`, under policy number `policy` of `policies`.
struct progress {
  std::string_view spec;
  std::size_t policy = 0;
  std::size_t policies = 0;
  std::size_t done = 0;
  std::size_t total = 0;
};

// The specs in `list`, which separates them by semicolons; a failure if one of them is empty.
[[nodiscard]] std::vector<std::string> split_policies(std::string_view list);

// Streams the same text through each policy: BOS and all tokens of it but the last are queries, and each predicts the
// token after it, so `tokens` losses make the perplexity. Every policy, and the whole input, is checked before the
// first stream begins.
// `report` is called after every step, and may be empty.
[[nodiscard]] comparison compare(const compare_options& options, const std::function<void(const progress&)>& report);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_COMPARE_HPP
