#include "checkpoint.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

namespace kvkeep_eval {

namespace {

namespace fs = std::filesystem;

constexpr const char* weights_name = "model.safetensors";

// The model as a path without links or dots, or a failure if there is none.
fs::path resolve(const fs::path& model) {
  std::error_code error;
  fs::path out = fs::canonical(model, error);
  if (error) {
    throw failure(fmt::format("{}: no such model ({})", model.string(), error.message()));
  }
  return out;
}

std::optional<llama2c_file> open_file(const fs::path& model, const fs::path& tokenizer_path) {
  if (fs::is_directory(model)) {
    const fs::path index_file = model / "model.safetensors.index.json";
    if (fs::exists(index_file) && !fs::exists(model / weights_name)) {
      throw failure(fmt::format("{}: splits the weights over several files, which is not supported; {} must hold all",
                                index_file.string(), weights_name));
    }
    return std::nullopt;
  }
  llama2c_file out(model);
  if (tokenizer_path.empty()) {
    throw failure(
        fmt::format("{}: is a llama2.c checkpoint, whose tokenizer must be given (--tokenizer)", model.string()));
  }
  return out;
}

}  // namespace

checkpoint::checkpoint(const fs::path& model, const fs::path& tokenizer_path)
    : model_(model),
      name_(resolve(model).filename().string()),
      file_(open_file(model, tokenizer_path)),
      config_(file_ ? file_->config() : read_llama_config(model / "config.json")),
      pieces_(tokenizer_path.empty() ? model / "tokenizer.model" : tokenizer_path) {
  const std::string source = (tokenizer_path.empty() ? model / "tokenizer.model" : tokenizer_path).string();
  if (pieces_.vocabulary() != config_.vocabulary) {
    throw failure(fmt::format("{}: has {} pieces; vocab_size in {} is {}", source, pieces_.vocabulary(),
                              file_ ? model.string() : "config.json", config_.vocabulary));
  }
  const std::optional<token> begin = config_.begin_of_stream ? config_.begin_of_stream : pieces_.begin_of_stream();
  if (!begin) {
    throw failure(fmt::format("{}: has no BOS piece, and config.json no bos_token_id", source));
  }
  begin_ = *begin;
}

bool checkpoint::ends_stream(token piece) const {
  const std::vector<int>& ends = config_.end_of_stream;
  return piece == begin_ ||
         (ends.empty() ? pieces_.end_of_stream() == piece : std::find(ends.begin(), ends.end(), piece) != ends.end());
}

llama checkpoint::load(std::size_t threads) const {
  return {config_, file_ ? file_->read_weights() : read_safetensors_weights(config_, model_ / weights_name), threads};
}

}  // namespace kvkeep_eval
