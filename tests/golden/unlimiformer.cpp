// Unlimiformer: cross-attention over hidden states that are searched, and what is right of the authors' decoder-only path.
//
// Of the latter the search vector is not ours: it ignores the first half of every head. That the file's is that very vector is
// checked, and its search, the keys that were found and the places they are rotated to are compared.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>

#include "golden.hpp"

namespace golden {
namespace {

/// An array {"shape": [...], "data": [...]} of the given shape.
std::vector<float> array_of(const json& object, const char* name, const positions& shape) {
  const json& array = field(object, name);
  require(positions_field(array, "shape") == shape, "{} does not have the shape of the file", name);
  std::vector<float> data = floats(field(array, "data"), name);
  const auto size = std::accumulate(shape.begin(), shape.end(), position{1}, std::multiplies<>());
  require(to_position(data.size()) == size, "{} has {} numbers, its shape {}", name, data.size(), size);
  return data;
}

struct hidden_case {
  explicit hidden_case(const json& file) {
    const json& sizes = field(file, "shapes");
    shape = {1, count_field(sizes, "q_heads"), count_field(sizes, "kv_heads"), count_field(sizes, "head_dim")};
    width = count_field(sizes, "embed_dim");
    tokens = count_field(sizes, "tokens");
    queries = count_field(sizes, "queries");
    const auto rows = to_position(shape.kv_heads * shape.head_dim);
    const json& in = field(file, "inputs");
    hidden = array_of(in, "hidden", {to_position(tokens), to_position(width)});
    wk = array_of(in, "wk", {rows, to_position(width)});
    wv = array_of(in, "wv", {rows, to_position(width)});
    if (has(in, "bk")) bk = array_of(in, "bk", {rows});
    if (has(in, "bv")) bv = array_of(in, "bv", {rows});
    q = array_of(in, "queries", {to_position(queries), to_position(shape.query_heads), to_position(shape.head_dim)});
  }
  [[nodiscard]] kvkeep::hidden_state_store store(const kvkeep::model_shape& of) const {
    auto made = kvkeep::make_hidden_state_store(of, {.d_model = width, .max_tokens = tokens});
    made.append({hidden.data(), tokens, 1, width});
    return made;
  }
  [[nodiscard]] kvkeep::hidden_state_projection layer() const {
    const std::size_t rows = shape.kv_heads * shape.head_dim;
    return {{wk.data(), rows, 1, width}, {wv.data(), rows, 1, width}, bk, bv};
  }

  kvkeep::model_shape shape;
  std::size_t width = 0;
  std::size_t tokens = 0;
  std::size_t queries = 0;
  std::vector<float> hidden, wk, wv, bk, bv, q;
};

positions as_positions(std::span<const std::uint32_t> list) { return {list.begin(), list.end()}; }

/// The list of a head in a step's retrieved_order.
positions order_of(const json& step, std::size_t head) {
  positions out;
  for (const json& at : list_field(step, "retrieved_order").at(head)) {
    out.push_back(to_position(as_count(at, "retrieved_order")));
  }
  return out;
}

void check_step(const json& step, std::size_t index, std::size_t heads) {
  require(text_field(step, "op") == "query", "unknown step {}", text_field(step, "op"));
  require(count_field(step, "index") == index, "queries out of order");
  require(list_field(step, "retrieved_order").size() == heads, "not a list a head");
}

}  // namespace

report run_unlimiformer(const json& file) {
  const hidden_case data(file);
  const std::size_t heads = data.shape.query_heads;
  const std::size_t dim = data.shape.head_dim;
  const std::size_t k = count_field(field(file, "params"), "topk");
  auto store = data.store(data.shape);
  const std::vector<float> output =
      array_of(file, "output", {to_position(data.queries), to_position(heads), to_position(dim)});
  std::vector<float> out(data.q.size(), std::nanf(""));
  std::vector<std::uint32_t> tokens(data.queries * heads * k);
  std::vector<std::uint32_t> counts(data.queries * heads);
  store.attend(data.layer(), {data.q.data(), data.queries, heads, dim}, {.k = k},
               {out.data(), data.queries, heads, dim}, {tokens, counts, {}});
  const json& steps = list_field(file, "steps");
  require(steps.size() == data.queries, "not a step a query");
  tally counted;
  for (std::size_t i = 0; i < data.queries; ++i) {
    check_step(steps.at(i), i, heads);
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t at = i * heads + h;
      counted.same(fmt::format("tokens of query {}, head {}", i, h),
                   as_positions(std::span(tokens).subspan(at * k, counts[at])), order_of(steps.at(i), h));
    }
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    counted.near(fmt::format("output {}", i), static_cast<double>(out[i]), static_cast<double>(output[i]), 2e-5);
  }
  return {false, fmt::format("{} queries of {} heads, {} lists of {} tokens, max abs error {:.1e}", data.queries, heads,
                             counted.compared(), k, counted.largest_error())};
}

report run_unlimiformer_llama(const json& file) {
  const hidden_case data(file);
  const std::size_t heads = data.shape.query_heads;
  const std::size_t dim = data.shape.head_dim;
  const json& params = field(file, "params");
  const std::size_t window = count_field(params, "actual_model_window_size");
  const std::size_t kv_window = count_field(params, "kv_window");
  const json& rotary = field(file, "rope");
  require(text_field(rotary, "layout") == "half_split" && count_field(rotary, "rotary_dim") == dim, "another rope");
  const auto frequencies = kvkeep::make_rope_frequencies({.theta = number_field(rotary, "theta")}, dim, 1);
  std::vector<double> cosine(dim / 2);
  std::vector<double> sine(dim / 2);
  const auto rotated = [&](std::span<const float> row, position at) {
    std::vector<float> out(dim);
    kvkeep::fill_angles(at, frequencies.inverse, cosine, sine);
    kvkeep::rotate_row(kvkeep::rope_layout::half_split, cosine, sine, 1.0, row, out.data());
    return out;
  };
  // A store whose keys are the hidden states themselves takes search vectors as they are.
  const kvkeep::model_shape plain{1, heads, 1, data.width};
  std::vector<float> identity(data.width * data.width, 0.0F);
  for (std::size_t c = 0; c < data.width; ++c) identity[c * data.width + c] = 1.0F;
  const kvkeep::rows_view<const float> itself{identity.data(), data.width, 1, data.width};
  auto searched = data.store(plain);
  const auto store = data.store(data.shape);

  const json& steps = list_field(file, "steps");
  require(steps.size() == data.queries, "not a step a query");
  tally counted;
  for (std::size_t i = 0; i < data.queries; ++i) {
    const json& step = steps.at(i);
    check_step(step, i, heads);
    const std::size_t generated = count_field(step, "generated");
    const std::size_t k = (std::min)({data.tokens, kv_window, kv_window + 1 - generated});
    const std::vector<float> vectors = array_of(step, "datastore_query", {to_position(heads), to_position(data.width)});
    const std::vector<float> keys =
        array_of(step, "retrieved_keys", {to_position(heads), to_position(k), to_position(dim)});
    std::vector<std::uint32_t> tokens(heads * k);
    std::vector<float> out(heads * data.width);
    searched.attend({itself, itself}, {vectors.data(), 1, heads, data.width}, {.k = k},
                    {out.data(), 1, heads, data.width}, {tokens, {}, {}});
    for (std::size_t h = 0; h < heads; ++h) {
      const std::string where = fmt::format("of query {}, head {}", i, h);
      // Theirs: twice the second half of the head's W_k^T, and nothing of the first.
      const position place = to_position((std::min)(generated, window)) - 1;
      const std::vector<float> query = rotated(std::span(data.q).subspan((i * heads + h) * dim, dim), place);
      for (std::size_t c = 0; c < data.width; ++c) {
        double theirs = 0.0;
        for (std::size_t j = dim / 2; j < dim; ++j) {
          theirs += 2.0 * static_cast<double>(query[j]) * static_cast<double>(data.wk[(h * dim + j) * data.width + c]);
        }
        counted.near("search vector " + where, theirs, static_cast<double>(vectors[h * data.width + c]), 2e-5);
      }
      const std::span<const std::uint32_t> mine = std::span(tokens).subspan(h * k, k);
      counted.same("tokens " + where, as_positions(mine), order_of(step, h));
      std::vector<float> projected(k * data.shape.kv_heads * dim);
      std::vector<float> values(projected.size());
      store.project(data.layer(), mine, {projected.data(), k, data.shape.kv_heads, dim},
                    {values.data(), k, data.shape.kv_heads, dim});
      for (std::size_t j = 0; j < k; ++j) {
        const std::size_t kv_head = h / data.shape.group();
        const std::vector<float> key =
            rotated(std::span(projected).subspan((j * data.shape.kv_heads + kv_head) * dim, dim),
                    kvkeep::squeezed_position(mine[j], data.tokens, window));
        for (std::size_t c = 0; c < dim; ++c) {
          counted.near(fmt::format("key of token {} {}", mine[j], where), static_cast<double>(key[c]),
                       static_cast<double>(keys[(h * k + j) * dim + c]), 2e-5);
        }
      }
    }
  }
  return {false,
          fmt::format("{} queries of {} heads, {} lists and {} numbers, max abs error {:.1e}; quirk: the search "
                      "vector has nothing of the first half of a head, ours: not offered; the search with it, the "
                      "keys found and their places are compared",
                      data.queries, heads, counted.compared(), counted.numbers(), counted.largest_error())};
}

}  // namespace golden
