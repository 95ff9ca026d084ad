#include "llama2c.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace kvkeep_eval {

namespace {

static_assert(std::endian::native == std::endian::little && sizeof(float) == 4,
              "llama2.c checkpoints are little endian, and are read as they are");

constexpr std::int32_t magic = 0x616b3432;  // "ak42"; a legacy file begins with its dim, which is never that large
constexpr std::size_t versioned_header = 256;

// The numbers of both headers, in their order.
struct header_numbers {
  std::int32_t dim = 0;
  std::int32_t hidden_dim = 0;
  std::int32_t n_layers = 0;
  std::int32_t n_heads = 0;
  std::int32_t n_kv_heads = 0;
  std::int32_t vocab_size = 0;
  std::int32_t max_seq_len = 0;
};

template <class T>
T read_at(const mapped_file& file, std::size_t at) {
  const std::string_view bytes = file.bytes();
  if (bytes.size() < at + sizeof(T)) {
    throw failure(
        fmt::format("{}: is not a llama2.c checkpoint ({} bytes, less than its header)", file.path(), bytes.size()));
  }
  T out;
  std::memcpy(&out, bytes.data() + at, sizeof(T));
  return out;
}

[[noreturn]] void refuse(const mapped_file& file, const char* name, std::int64_t value, const std::string& allowed) {
  throw failure(
      fmt::format("{}: is not a llama2.c checkpoint ({} is {}; it must be {})", file.path(), name, value, allowed));
}

// The bounds leave the file's length within 64 bits.
void check_range(const mapped_file& file, const char* name, std::int64_t value, std::int64_t largest) {
  if (value < 1 || value > largest) {
    refuse(file, name, value, fmt::format("from 1 to {}", largest));
  }
}

void check(const mapped_file& file, const header_numbers& h) {
  constexpr std::int64_t widest = 1 << 20;
  constexpr std::int64_t longest = 1 << 24;
  constexpr std::int64_t deepest = 1 << 16;
  check_range(file, "dim", h.dim, widest);
  check_range(file, "hidden_dim", h.hidden_dim, widest);
  check_range(file, "n_layers", h.n_layers, deepest);
  check_range(file, "n_heads", h.n_heads, widest);
  check_range(file, "n_kv_heads", h.n_kv_heads, widest);
  check_range(file, "vocab_size", h.vocab_size, longest);
  check_range(file, "max_seq_len", h.max_seq_len, longest);
  if (h.dim % h.n_heads != 0 || h.dim / h.n_heads % 2 != 0) {
    refuse(file, "dim", h.dim, fmt::format("an even multiple of n_heads, {}", h.n_heads));
  }
  if (h.n_heads % h.n_kv_heads != 0) {
    refuse(file, "n_heads", h.n_heads, fmt::format("a multiple of n_kv_heads, {}", h.n_kv_heads));
  }
}

// The floats of a mapped file, taken one tensor after the other.
class float_reader {
 public:
  explicit float_reader(std::string_view bytes) : rest_(bytes) {}

  // The next rows * columns floats, [rows, columns].
  [[nodiscard]] matrix read(std::size_t rows, std::size_t columns) {
    matrix out(index(rows), index(columns));
    const std::size_t bytes = rows * columns * sizeof(float);
    std::memcpy(out.data(), rest_.data(), bytes);
    rest_.remove_prefix(bytes);
    return out;
  }

  // The next tensor of every layer, [rows, columns] each, into the member `to` of each layer.
  void read_layers(std::vector<llama_weights::layer>& layers, matrix llama_weights::layer::*to, std::size_t rows,
                   std::size_t columns) {
    for (llama_weights::layer& layer : layers) {
      layer.*to = read(rows, columns);
    }
  }

  void skip(std::size_t floats) { rest_.remove_prefix(floats * sizeof(float)); }

 private:
  std::string_view rest_;
};

}  // namespace

llama2c_file::llama2c_file(const std::filesystem::path& path) : file_(path) {
  read_header();
  const std::size_t needed = start_ + floats() * sizeof(float);
  if (file_.bytes().size() != needed) {
    throw failure(fmt::format("{}: {} ({} bytes; a llama2.c checkpoint with its header has {})", file_.path(),
                              file_.bytes().size() < needed ? "is truncated" : "is too long", file_.bytes().size(),
                              needed));
  }
}

void llama2c_file::read_header() {
  header_numbers h;
  if (read_at<std::int32_t>(file_, 0) == magic) {
    const auto version = read_at<std::int32_t>(file_, 4);
    if (version == 2) {
      throw failure(
          fmt::format("{}: is a llama2.c checkpoint of version 2 (int8), which is not supported; export "
                      "version 0 or 1",
                      file_.path()));
    }
    if (version != 1) {
      throw failure(fmt::format("{}: is a llama2.c checkpoint of version {}; supported are 0 (legacy) and 1",
                                file_.path(), version));
    }
    form_ = form::version_1;
    start_ = versioned_header;
    h = read_at<header_numbers>(file_, 8);
    const auto shared = read_at<std::uint8_t>(file_, 8 + sizeof(header_numbers));
    if (shared > 1) {
      refuse(file_, "shared_classifier", shared, "0 or 1");
    }
    config_.tied_output = shared == 1;
  } else {
    start_ = sizeof(header_numbers);
    h = read_at<header_numbers>(file_, 0);
    config_.tied_output = h.vocab_size > 0;
    if (h.vocab_size < 0 && h.vocab_size != INT32_MIN) {
      h.vocab_size = -h.vocab_size;
    }
  }
  check(file_, h);
  config_.layers = static_cast<std::size_t>(h.n_layers);
  config_.hidden = static_cast<std::size_t>(h.dim);
  config_.feed_forward = static_cast<std::size_t>(h.hidden_dim);
  config_.query_heads = static_cast<std::size_t>(h.n_heads);
  config_.kv_heads = static_cast<std::size_t>(h.n_kv_heads);
  config_.head_dim = config_.hidden / config_.query_heads;
  config_.vocabulary = static_cast<std::size_t>(h.vocab_size);
  config_.trained_length = static_cast<std::size_t>(h.max_seq_len);
  config_.positions = {.theta = 10000.0, .layout = kvkeep::rope_layout::interleaved};
  config_.norm_epsilon = 1e-5;
  config_.begin_of_stream = 1;
}

std::size_t llama2c_file::rotary_floats() const noexcept {
  return form_ == form::legacy ? config_.trained_length * config_.head_dim : 0;  // cosines and sines
}

std::size_t llama2c_file::floats() const noexcept {
  const std::size_t hidden = config_.hidden;
  const std::size_t kv_width = config_.kv_heads * config_.head_dim;
  const std::size_t layer = 2 * hidden + 2 * hidden * (hidden + kv_width) + 3 * hidden * config_.feed_forward;
  const std::size_t tables = config_.tied_output ? 1 : 2;
  return tables * config_.vocabulary * hidden + config_.layers * layer + hidden + rotary_floats();
}

llama_weights llama2c_file::read_weights() const {
  using layer = llama_weights::layer;
  const std::size_t hidden = config_.hidden;
  const std::size_t kv_width = config_.kv_heads * config_.head_dim;
  const std::size_t wide = config_.feed_forward;

  llama_weights out;
  out.layers.resize(config_.layers);
  float_reader file(file_.bytes().substr(start_));
  const auto read_attention = [&] {
    file.read_layers(out.layers, &layer::q, hidden, hidden);
    file.read_layers(out.layers, &layer::k, kv_width, hidden);
    file.read_layers(out.layers, &layer::v, kv_width, hidden);
    file.read_layers(out.layers, &layer::o, hidden, hidden);
  };
  const auto read_feed_forward = [&] {
    file.read_layers(out.layers, &layer::gate, wide, hidden);  // w1
    file.read_layers(out.layers, &layer::down, hidden, wide);  // w2
    file.read_layers(out.layers, &layer::up, wide, hidden);    // w3
  };
  if (form_ == form::legacy) {
    out.embedding = file.read(config_.vocabulary, hidden);
    file.read_layers(out.layers, &layer::attention_norm, 1, hidden);
    read_attention();
    file.read_layers(out.layers, &layer::mlp_norm, 1, hidden);
    read_feed_forward();
    out.final_norm = file.read(1, hidden);
    file.skip(rotary_floats());
  } else {
    file.read_layers(out.layers, &layer::attention_norm, 1, hidden);
    file.read_layers(out.layers, &layer::mlp_norm, 1, hidden);
    out.final_norm = file.read(1, hidden);
    out.embedding = file.read(config_.vocabulary, hidden);
    read_attention();
    read_feed_forward();
  }
  if (!config_.tied_output) {
    out.head = file.read(config_.vocabulary, hidden);
  }
  return out;
}

}  // namespace kvkeep_eval
