// Frequencies of scaled RoPE, turning stored keys, and how far survivors of a block eviction move.
#include <algorithm>
#include <optional>

#include "golden.hpp"
#include "stream.hpp"

namespace golden {
namespace {

/// A peer's configuration as ours, and the length that scalings may depend on.
struct rope_config {
  kvkeep::rope rope;
  std::size_t head_dim = 0;
  std::size_t length = 0;
};

std::optional<double> attention_factor_of(const json& config) {
  if (!has(config, "attention_factor")) return std::nullopt;
  return number_field(config, "attention_factor");
}

kvkeep::yarn_scaling yarn_of(const json& config) {
  kvkeep::yarn_scaling out{.factor = number_field(config, "factor"),
                           .original_max_position = number_field(config, "original_max_position"),
                           .attention_factor = attention_factor_of(config)};
  if (has(config, "beta_fast")) out.beta_fast = number_field(config, "beta_fast");
  if (has(config, "beta_slow")) out.beta_slow = number_field(config, "beta_slow");
  return out;
}

rope_config config_of(const json& config) {
  rope_config out;
  out.rope.theta = number_field(config, "theta");
  out.rope.rotary_dim = count_field(config, "rotary_dim");
  out.head_dim = has(config, "head_dim") ? count_field(config, "head_dim") : out.rope.rotary_dim;
  const std::string type = text_field(config, "rope_type");
  if (type == "default") return out;
  const double factor = number_field(config, "factor");
  if (type == "linear") {
    out.rope.scaling = kvkeep::linear_scaling{factor};
  } else if (type == "ntk") {
    out.rope.scaling = kvkeep::ntk_scaling{factor};
  } else if (type == "dynamic") {
    out.rope.scaling = kvkeep::dynamic_ntk_scaling{factor, number_field(config, "original_max_position")};
    out.length = count_field(config, "seq_len");
  } else if (type == "yarn") {
    out.rope.scaling = yarn_of(config);
  } else if (type == "llama3") {
    out.rope.scaling =
        kvkeep::llama3_scaling{factor, number_field(config, "original_max_position"),
                               number_field(config, "low_freq_factor"), number_field(config, "high_freq_factor")};
  } else {
    require(type == "longrope", "unknown rope_type {}", type);
    // The peer takes the long divisors where factor > 1; ours where the length is beyond the original one.
    const std::size_t original = count_field(config, "original_max_position");
    out.rope.scaling =
        kvkeep::longrope_scaling{numbers_field(config, "short_factor"), numbers_field(config, "long_factor"), factor,
                                 static_cast<double>(original), attention_factor_of(config)};
    out.length = factor > 1.0 ? original + 1 : original;
  }
  return out;
}

kvkeep::rope_frequencies frequencies_of(const rope_config& config) {
  return kvkeep::make_rope_frequencies(config.rope, config.head_dim, config.length);
}

/// Checks each of a list of frequencies to a relative tolerance.
void compare_frequencies(const std::string& row, const std::vector<double>& ours, const std::vector<double>& expected,
                         double relative, tally& counted) {
  counted.same(row + ": frequencies", ours.size(), expected.size());
  for (std::size_t j = 0; j < ours.size(); ++j) {
    counted.near(fmt::format("{}: frequency {}", row, j), ours[j], expected[j], relative * std::abs(expected[j]));
  }
}

/// A row turned by `at` positions.
std::vector<float> turned(kvkeep::rope_layout layout, const std::vector<double>& inverse, position at, double factor,
                          const std::vector<float>& row) {
  std::vector<double> cosine(inverse.size());
  std::vector<double> sine(inverse.size());
  std::vector<float> out(row.size());
  kvkeep::fill_angles(at, inverse, cosine, sine);
  kvkeep::rotate_row(layout, cosine, sine, factor, row, out.data());
  return out;
}

void compare_row(const std::string& what, const std::vector<float>& ours, const std::vector<float>& expected,
                 double tolerance, tally& counted) {
  counted.same(what + ": components", ours.size(), expected.size());
  for (std::size_t c = 0; c < ours.size(); ++c) {
    counted.near(fmt::format("{}, component {}", what, c), static_cast<double>(ours[c]),
                 static_cast<double>(expected[c]), tolerance);
  }
}

std::vector<std::vector<float>> rows_field(const json& object, const char* name) {
  std::vector<std::vector<float>> out;
  for (const json& row : list_field(object, name)) out.push_back(floats(row, name));
  return out;
}

void compare_rerotation(const std::string& id, const json& row, double tolerance, tally& counted) {
  rope_config config = config_of(field(row, "config"));
  const std::string layout = text_field(row, "layout");
  require(layout == "half_split" || layout == "interleaved", "unknown layout {}", layout);
  config.rope.layout = layout == "half_split" ? kvkeep::rope_layout::half_split : kvkeep::rope_layout::interleaved;
  const kvkeep::rope_frequencies f = frequencies_of(config);
  compare_frequencies(id, f.inverse, numbers_field(row, "inv_freq"), 1e-6, counted);
  counted.near(id + ": attention_factor", f.attention_factor, number_field(row, "attention_factor"), 1e-9);

  const positions at = positions_field(row, "positions");
  const positions kept = positions_field(row, "kept");
  const positions new_at = positions_field(row, "new_positions");
  const auto raw = rows_field(row, "raw_keys");
  const auto stored = rows_field(row, "stored_keys");
  const json& expect = field(row, "expect");
  const auto keys = rows_field(expect, "keys");
  const std::vector<double> delta = numbers_field(expect, "delta");
  counted.same(id + ": tokens", raw.size(), at.size());
  counted.same(id + ": tokens", stored.size(), at.size());
  for (const std::size_t n : {new_at.size(), keys.size(), delta.size()})
    counted.same(id + ": tokens kept", n, kept.size());
  for (std::size_t t = 0; t < raw.size(); ++t) {
    compare_row(fmt::format("{}: stored key {}", id, t),
                turned(config.rope.layout, f.inverse, at[t], f.attention_factor, raw[t]), stored[t], tolerance,
                counted);
  }
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const auto t = static_cast<std::size_t>(kept[i]);
    require(t < at.size(), "{}: kept token {} of {}", id, t, at.size());
    const position moved = new_at[i] - at[t];
    counted.near(fmt::format("{}: delta {}", id, i), static_cast<double>(moved), delta[i], 0.0);
    compare_row(fmt::format("{}: raw key {} turned once", id, t),
                turned(config.rope.layout, f.inverse, new_at[i], f.attention_factor, raw[t]), keys[i], tolerance,
                counted);
    compare_row(fmt::format("{}: stored key {} turned by delta", id, t),
                turned(config.rope.layout, f.inverse, moved, 1.0, stored[t]), keys[i], tolerance, counted);
  }
}

// Block eviction: blocks are ranges of positions; what is evicted is erased, and the planner says who moves how far.

/// Where the tokens of a planner were, and by how much they have moved since.
struct moved_tokens {
  positions at;
  positions delta;
};

/// The evicted blocks as ranges first <= block < last.
std::vector<std::pair<position, position>> ranges_of(const positions& blocks) {
  std::vector<std::pair<position, position>> out;
  for (const position b : blocks) {
    if (!out.empty() && out.back().second == b) {
      out.back().second = b + 1;
    } else {
      out.emplace_back(b, b + 1);
    }
  }
  return out;
}

/// Erases the ranges one after the other and adds up the shifts. An error ends it.
kvkeep::result<moved_tokens> evict(kvkeep::planner<kvkeep::dense>& plan, const positions& blocks, position block_size) {
  moved_tokens out{plan.held(), {}};
  out.delta.assign(out.at.size(), 0);
  for (const auto& [first, last] : ranges_of(blocks)) {
    if (auto ok = plan.try_erase(first * block_size, last * block_size); !ok) return ok.error();
    for (const kvkeep::index_shift& s : plan.last().shifts) {
      for (std::size_t i = 0; i < out.at.size(); ++i) {
        if (out.at[i] >= s.first && out.at[i] <= s.last) out.delta[i] += s.delta;
      }
    }
  }
  return out;
}

kvkeep::planner<kvkeep::dense> filled(std::size_t tokens) {
  auto plan = plan_of(kvkeep::dense{(std::max)(tokens, std::size_t{1})}, 512);
  feed_all(plan, tokens, 512);
  return plan;
}

/// A block of tokens that moved.
struct moved_block {
  std::size_t new_block;
  position delta;
};

/// The blocks that moved, oldest first; all tokens of a block must move alike and close up.
std::vector<moved_block> moved_blocks(const std::string& id, const kvkeep::planner<kvkeep::dense>& plan,
                                      const moved_tokens& moved, std::size_t block_size, tally& counted) {
  const positions held = plan.held();
  counted.same(id + ": tokens left", held.size() % block_size, 0);
  std::vector<moved_block> out;
  for (std::size_t i = 0; i < held.size(); ++i) {
    const auto was = static_cast<std::size_t>(std::find(moved.at.begin(), moved.at.end(), held[i]) - moved.at.begin());
    require(was < moved.at.size(), "{}: token {} came from nowhere", id, held[i]);
    const position delta = moved.delta[was];
    require(to_position(was) + delta == to_position(i), "{}: token {} went from {} to {}, its shift is {}", id, held[i],
            was, i, delta);
    if (delta == 0) continue;
    if (i % block_size == 0) out.push_back({i / block_size, delta});
    require(!out.empty() && out.back().delta == delta && out.back().new_block == i / block_size,
            "{}: block {} does not move as one", id, i / block_size);
  }
  return out;
}

void compare_refusal(const std::string& id, const json& row, const positions& evicted, tally& counted) {
  const auto block_size = to_position(count_field(row, "block_size"));
  const std::size_t before = count_field(row, "num_blocks_before");
  require(bool_field(field(row, "expect"), "error"), "{}: no error expected", id);
  if (!(number_field(row, "rope_theta") > 0.0)) {
    const std::size_t dim = count_field(row, "head_dim");
    const kvkeep::rope rope{.theta = number_field(row, "rope_theta")};
    (void)refused(id, kvkeep::try_rope_frequencies(rope, dim, 0), "theta");
    (void)refused(id, kvkeep::try_make_cache({1, 1, 1, dim}, kvkeep::dense{16}, {.positions = rope}), "theta");
    return;
  }
  auto plan = filled(before * static_cast<std::size_t>(block_size));
  (void)refused(id, evict(plan, evicted, block_size), "last");
  // What was refused changed nothing: only ranges before the one at fault are gone.
  std::size_t left = plan.held().size();
  for (const auto& [first, last] : ranges_of(evicted)) {
    if (last <= to_position(before)) left += static_cast<std::size_t>((last - first) * block_size);
  }
  counted.same(id + ": tokens untouched", left, before * static_cast<std::size_t>(block_size));
}

void compare_coefficients(const std::string& id, const json& row, const std::vector<moved_block>& blocks,
                          double tolerance, tally& counted) {
  const json& rotated = list_field(field(row, "expect"), "rotated");
  counted.same(id + ": blocks that move", blocks.size(), rotated.size());
  const std::size_t dim = count_field(row, "head_dim");
  const auto f = kvkeep::make_rope_frequencies({.theta = number_field(row, "rope_theta")}, dim, 0);
  std::vector<double> cosine(f.inverse.size());
  std::vector<double> sine(f.inverse.size());
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    counted.same(id + ": new_block", blocks[b].new_block, count_field(rotated[b], "new_block"));
    if (has(rotated[b], "delta_tokens")) {
      counted.same(id + ": delta_tokens", positions{-blocks[b].delta},
                   positions{to_position(count_field(rotated[b], "delta_tokens"))});
    }
    kvkeep::fill_angles(blocks[b].delta, f.inverse, cosine, sine);
    const std::vector<double> expected_cosine = numbers_field(rotated[b], "cos");
    const std::vector<double> expected_sine = numbers_field(rotated[b], "neg_sin");
    counted.same(id + ": cos", cosine.size(), expected_cosine.size());
    counted.same(id + ": neg_sin", sine.size(), expected_sine.size());
    for (std::size_t j = 0; j < cosine.size(); ++j) {
      counted.near(fmt::format("{}: cos of block {}, {}", id, blocks[b].new_block, j), cosine[j], expected_cosine[j],
                   tolerance);
      counted.near(fmt::format("{}: neg_sin of block {}, {}", id, blocks[b].new_block, j), sine[j], expected_sine[j],
                   tolerance);
    }
  }
}

}  // namespace

report run_rope_inv_freq_tables(const json& file) {
  const json& tolerance = field(file, "tolerance");
  const double relative = number_field(tolerance, "rel_inv_freq");
  tally counted;
  tally printed;
  row_count rows;
  for (const json& row : list_field(file, "cases")) {
    const std::string id = text_field(row, "id");
    const kvkeep::rope_frequencies f = frequencies_of(config_of(field(row, "config")));
    const json& expect = field(row, "expect");
    compare_frequencies(id, f.inverse, numbers_field(expect, "inv_freq"), relative, counted);
    if (has(expect, "peer_literal_inv_freq")) {
      compare_frequencies(id + " (as printed by the peer)", f.inverse, numbers_field(expect, "peer_literal_inv_freq"),
                          number_field(tolerance, "rel_peer_literal"), printed);
      rows.remark(id, "also the five digits that the peer prints");
    }
    counted.near(id + ": attention_factor", f.attention_factor, number_field(expect, "attention_factor"),
                 number_field(tolerance, "abs_attention_factor"));
    rows.compared();
  }
  return {false, rows.summary(field(file, "cases").size(), counted)};
}

report run_rope_rerotation(const json& file) {
  const double tolerance = number_field(field(file, "tolerance"), "abs");
  tally counted;
  row_count rows;
  for (const json& row : list_field(file, "cases")) {
    compare_rerotation(text_field(row, "id"), row, tolerance, counted);
    rows.compared();
  }
  return {false, rows.summary(field(file, "cases").size(), counted)};
}

report run_ov_cache_rotation(const json& file) {
  const double tolerance = number_field(field(file, "tolerance"), "abs");
  tally counted;
  row_count rows;
  for (const json& row : list_field(file, "cases")) {
    const std::string id = text_field(row, "id");
    const std::string kind = has(row, "kind") ? text_field(row, "kind") : "coefficients";
    const positions evicted = positions_field(row, "evicted");
    rows.compared();
    if (kind == "error") {
      compare_refusal(id, row, evicted, counted);
      if (ranges_of(evicted).size() > 1)
        rows.remark(id, "evicted ranges are erased one by one: those before a refused one are gone");
      continue;
    }
    require(kind == "count" || kind == "coefficients", "{}: unknown kind {}", id, kind);
    const std::size_t block_size = count_field(row, "block_size");
    auto plan = filled(count_field(row, "num_blocks_before") * block_size);
    const auto moved = evict(plan, evicted, to_position(block_size));
    if (!moved) throw moved.error();
    const std::vector<moved_block> blocks = moved_blocks(id, plan, *moved, block_size, counted);
    if (kind == "count") {
      counted.same(id + ": blocks that move", blocks.size(), count_field(field(row, "expect"), "num_rotated_blocks"));
    } else {
      compare_coefficients(id, row, blocks, tolerance, counted);
    }
    if (has(row, "max_context_blocks"))
      rows.remark(id, "max_context_blocks sizes a table of angles that ours does not have");
  }
  return {false, rows.summary(field(file, "cases").size(), counted)};
}

}  // namespace golden
