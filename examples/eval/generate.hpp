#ifndef KVKEEP_EVAL_GENERATE_HPP
#define KVKEEP_EVAL_GENERATE_HPP

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace kvkeep_eval {

// What `kvkeep-eval generate` is asked to do.
struct generate_options {
  std::filesystem::path model;      // a directory or a llama2.c checkpoint
  std::filesystem::path tokenizer;  // empty: the directory's own
  std::string prompt;               // UTF-8; empty: the text begins after BOS
  std::size_t tokens = 0;           // at most so many after the prompt, > 0
  std::string policy = "dense";     // spec; max_tokens is that of the run unless it is given
  std::size_t threads = 1;
};

// Continues the prompt greedily: every token is the most likely one under the policy, the first of equals. Ends before
// BOS or EOS. `print` gets the prompt and its continuation in pieces of whole characters as they come. Everything is
// checked before the weights are read. `stop`, which may be empty, is asked before every token: true ends the text there.
void generate(const generate_options& options, const std::function<void(std::string_view)>& print,
              const std::function<bool()>& stop = {});

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_GENERATE_HPP
