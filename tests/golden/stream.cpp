#include "stream.hpp"

namespace golden {

positions positions_of(const query_reads& reads) {
  positions out;
  out.reserve(reads.size());
  for (const key_read& r : reads) out.push_back(r.at);
  return out;
}

positions read_by_any(const std::vector<query_reads>& queries) {
  positions out;
  for (const query_reads& reads : queries) {
    for (const key_read& r : reads) out.push_back(r.at);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

positions sinks_and_window(position query, std::size_t sinks, std::size_t window) {
  const position edge = (std::max)(query - to_position(window) + 1, position{0});
  positions out = range(0, (std::min)(to_position(sinks), edge));
  for (const position p : range(edge, query + 1)) out.push_back(p);
  return out;
}

namespace {

/// An array {"shape": [...], "data": [...]} of the given shape.
std::vector<float> tensor(const json& object, const char* name, std::size_t tokens, std::size_t heads,
                          std::size_t dim) {
  const json& array = field(object, name);
  const positions shape = positions_field(array, "shape");
  require(shape == positions{to_position(tokens), to_position(heads), to_position(dim)},
          "{} does not have the shape of the file", name);
  std::vector<float> data = floats(field(array, "data"), name);
  require(data.size() == tokens * heads * dim, "{} has {} numbers, its shape {}", name, data.size(),
          tokens * heads * dim);
  return data;
}

kvkeep::position_encoding encoding_of(const json& file) {
  if (!has(file, "rope")) return kvkeep::no_positions{};
  const json& rope = field(file, "rope");
  const std::string layout = text_field(rope, "layout");
  require(layout == "half_split" || layout == "interleaved", "unknown rope layout {}", layout);
  if (!has(rope, "rotary_dim")) return kvkeep::no_positions{};
  kvkeep::rope out;
  out.theta = number_field(rope, "theta");
  out.rotary_dim = count_field(rope, "rotary_dim");
  out.layout = layout == "half_split" ? kvkeep::rope_layout::half_split : kvkeep::rope_layout::interleaved;
  return out;
}

}  // namespace

attention_case load_attention_case(const json& file) {
  attention_case out;
  const json& shapes = field(file, "shapes");
  out.tokens = count_field(shapes, "tokens");
  out.shape = {1, count_field(shapes, "q_heads"), count_field(shapes, "kv_heads"), count_field(shapes, "head_dim")};
  if (const auto ok = out.shape.check(); !ok) throw ok.error();
  out.encoding = encoding_of(file);
  const json& inputs = field(file, "inputs");
  out.q = tensor(inputs, "q", out.tokens, out.shape.query_heads, out.shape.head_dim);
  out.k = tensor(inputs, "k", out.tokens, out.shape.kv_heads, out.shape.head_dim);
  out.v = tensor(inputs, "v", out.tokens, out.shape.kv_heads, out.shape.head_dim);
  out.output = tensor(file, "output", out.tokens, out.shape.query_heads, out.shape.head_dim);

  std::size_t next = 0;
  for (const json& step : list_field(file, "steps")) {
    if (const std::string op = text_field(step, "op"); op != "append" && op != "round") continue;
    const std::size_t count = count_field(step, "token_count");
    require(count_field(step, "token_begin") == next && count >= 1 && count <= out.tokens - next,
            "the step at token {} does not continue the stream", next);
    out.longest_step = (std::max)(out.longest_step, count);
    next += count;
  }
  require(next == out.tokens && next > 0, "the steps cover {} of {} tokens", next, out.tokens);
  return out;
}

void compare_outputs(const attention_case& data, std::size_t first, std::size_t count, const std::vector<float>& ours,
                     tally& counted) {
  const std::size_t heads = data.shape.query_heads;
  const std::size_t dim = data.shape.head_dim;
  for (std::size_t i = 0; i < count * heads * dim; ++i) {
    const float expected = data.output[first * heads * dim + i];
    if (std::abs(static_cast<double>(ours[i]) - static_cast<double>(expected)) <= output_tolerance) {
      counted.near("output", static_cast<double>(ours[i]), static_cast<double>(expected), output_tolerance);
      continue;
    }
    counted.near(
        fmt::format("output of token {}, head {}, component {}", first + i / (heads * dim), i / dim % heads, i % dim),
        static_cast<double>(ours[i]), static_cast<double>(expected), output_tolerance);
  }
}

}  // namespace golden
