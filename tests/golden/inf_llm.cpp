// InfLLM: in the calls of the file; the same cut at execution blocks, where every lookup and what decided representatives can be
// seen, with all units in RAM and with only those there that the authors' device cache holds; and, where the authors' blocks are
// single tokens, the default policy, token by token and in steps of 7.
#include <filesystem>

#include <unistd.h>

#include "golden.hpp"
#include "stream.hpp"

namespace golden {
namespace {

constexpr double score_tolerance = 1e-4;
constexpr double mean_tolerance = 2e-5;

/// One execution block of the authors.
struct file_chunk {
  std::size_t begin = 0;
  std::size_t count = 0;
  std::size_t units = 0;         // that exist
  std::vector<positions> order;  // [choosers]: retrieved, best first
  positions hot;                 // what the device cache holds behind it, sorted; not where heads have their own
};
/// One call.
struct file_call {
  std::size_t count = 0;
  std::vector<file_chunk> chunks;
};
/// One block as it was formed.
struct file_block {
  std::size_t created_after = 0;
  std::vector<positions> offsets;  // [query_heads]
  std::vector<double> scores;      // [query_heads][block_size]
  std::vector<double> mean;        // [query_heads][head_dim]
};

positions counts_of(const json& list) {
  positions out;
  for (const json& x : list) out.push_back(to_position(as_count(x, "an element of a list")));
  return out;
}
/// A list of counts, or one list a query head.
std::vector<positions> lists_of(const json& list, bool per_head) {
  if (!per_head) return {counts_of(list)};
  std::vector<positions> out;
  for (const json& each : list) out.push_back(counts_of(each));
  return out;
}
std::vector<double> data_of(const json& array) { return numbers_field(array, "data"); }

struct inf_llm_file {
  attention_case data;
  bool per_head = false;
  std::size_t frozen = 1;
  kvkeep::inf_llm::published policy;
  std::size_t hot_units = 0;
  kvkeep::hot_rule keeps;
  std::vector<file_call> calls;
  std::vector<file_block> blocks;

  explicit inf_llm_file(const json& file) : data(load_attention_case(file)) {
    const json& params = field(file, "params");
    per_head = bool_field(params, "perhead");
    const std::size_t exec = count_field(params, "exc_block_size");
    if (has(params, "chunk_topk_calc")) frozen = count_field(params, "chunk_topk_calc") / exec;
    const std::string variant = text_field(params, "variant");
    require(variant == "reference" || variant == "window_mask_corrected", "unknown variant {}", variant);
    policy = {.n_init = count_field(params, "n_init"),
              .n_local = count_field(params, "n_local"),
              .block_size = count_field(params, "block_size"),
              .topk = count_field(params, "topk"),
              .repr_topk = count_field(params, "repr_topk"),
              .exc_block_size = exec,
              .chunk_topk_blocks = frozen,
              .max_tokens = data.tokens,
              .chooses = per_head ? kvkeep::chosen_by::query_head : kvkeep::chosen_by::layer,
              .pending = variant == "reference" ? kvkeep::pending_mask::authors : kvkeep::pending_mask::exact};
    hot_units = count_field(params, "max_cached_block");
    const std::string strategy = text_field(params, "cache_strategy");
    require(strategy == "lru" || strategy == "lru-s", "unknown cache strategy {}", strategy);
    if (strategy == "lru-s") {
      keeps = kvkeep::hot::decayed{.decay = static_cast<float>(number_field(params, "score_decay")), .since_use = true};
    }
    for (const json& step : list_field(file, "steps")) {
      require(text_field(step, "op") == "append", "unknown step {}", text_field(step, "op"));
      file_call call{count_field(step, "token_count"), {}};
      for (const json& chunk : list_field(step, "chunks")) {
        const json& units = field(chunk, "n_blocks");
        call.chunks.push_back({count_field(chunk, "token_begin"), count_field(chunk, "token_count"),
                               as_count(units.is_array() ? units.at(0) : units, "n_blocks"),
                               lists_of(list_field(chunk, "retrieved_order"), per_head),
                               per_head ? positions{} : counts_of(list_field(chunk, "cached_blocks"))});
      }
      calls.push_back(std::move(call));
    }
    for (const json& block : list_field(file, "blocks")) {
      file_block b{count_field(block, "created_after_token"), lists_of(list_field(block, "repr_offsets"), true),
                   data_of(field(block, "local_scores")), data_of(field(block, "repr_mean"))};
      require(count_field(block, "block") == blocks.size(), "block {} is out of order", blocks.size());
      require(count_field(block, "token_begin") == policy.n_init + blocks.size() * policy.block_size,
              "block {} begins elsewhere", blocks.size());
      blocks.push_back(std::move(b));
    }
  }
};

/// A path at which there is nothing, for this process alone.
std::string private_path() {
  return (std::filesystem::temp_directory_path() / fmt::format("kvkeep-golden-{}", ::getpid())).string();
}

/// A cache that is fed the file's tokens.
template <class Policy>
class run {
 public:
  run(const inf_llm_file& file, const Policy& policy, tally& counted, const kvkeep::unit_tiers& tiers = {})
      : file_(file),
        counted_(counted),
        cache_(kvkeep::make_cache(file.data.shape, policy,
                                  {.positions = file.data.encoding, .max_step = file.data.tokens, .tiers = tiers})) {}

  void append(std::size_t count) {
    const kvkeep::model_shape& s = file_.data.shape;
    const std::size_t query_row = s.query_heads * s.head_dim;
    const std::size_t kv_row = s.kv_heads * s.head_dim;
    std::vector<float> out(count * query_row, std::nanf(""));
    auto step = cache_.begin(count);
    step.attend(0, {file_.data.q.data() + next_ * query_row, count, s.query_heads, s.head_dim},
                {file_.data.k.data() + next_ * kv_row, count, s.kv_heads, s.head_dim},
                {file_.data.v.data() + next_ * kv_row, count, s.kv_heads, s.head_dim},
                {out.data(), count, s.query_heads, s.head_dim});
    step.commit();
    compare_outputs(file_.data, next_, count, out, counted_);
    next_ += count;
  }
  /// What the last chunk looked up.
  void check_retrieved(const file_chunk& chunk) {
    const auto memory = cache_.memory();
    counted_.same(fmt::format("choosers at token {}", chunk.begin), memory.choosers(), chunk.order.size());
    for (std::size_t c = 0; c < chunk.order.size(); ++c) {
      positions ours;
      for (const std::uint32_t unit : memory.retrieved(0, c)) ours.push_back(to_position(unit));
      positions expected = chunk.order[c];
      if (chunk.units <= file_.policy.topk) {  // all of them, in no order
        ours = sorted(ours);
        expected = sorted(expected);
      }
      counted_.same(fmt::format("retrieved by {} at token {}", c, chunk.begin), ours, expected);
    }
  }
  /// What is in RAM.
  void check_hot(const file_chunk& chunk) {
    positions ours;
    for (const std::uint32_t unit : cache_.memory().hot_units(0)) ours.push_back(to_position(unit));
    counted_.same(fmt::format("units in RAM at token {}", chunk.begin), sorted(ours), chunk.hot);
  }
  /// The window's sums of the units that the last chunk completed.
  void check_sums() {
    for (std::size_t b = 0; b < file_.blocks.size(); ++b) {
      if (file_.blocks[b].created_after + 1 != next_) continue;
      const std::size_t size = file_.policy.block_size;
      for (std::size_t i = 0; i < file_.blocks[b].scores.size(); ++i) {
        const position at = cache_.memory().first_of(b) + to_position(i % size);
        counted_.near(fmt::format("local score {} of block {}", i, b),
                      static_cast<double>(*cache_.memory().try_window_sum(0, i / size, at)), file_.blocks[b].scores[i],
                      score_tolerance);
      }
    }
  }
  /// Who represents the units, at the end.
  void check_representatives() {
    const auto memory = cache_.memory();
    counted_.same("blocks", memory.count(), file_.blocks.size());
    for (std::size_t b = 0; b < file_.blocks.size(); ++b) {
      for (std::size_t head = 0; head < file_.data.shape.query_heads; ++head) {
        positions ours;
        for (const std::uint32_t token : memory.representatives(0, b, head)) ours.push_back(to_position(token));
        counted_.same(fmt::format("representatives of block {} for head {}", b, head), ours,
                      file_.blocks[b].offsets[head]);
        const std::span<const float> mean = memory.representative(0, b, head);
        for (std::size_t c = 0; c < mean.size(); ++c) {
          counted_.near(fmt::format("representative of block {}", b), static_cast<double>(mean[c]),
                        file_.blocks[b].mean[head * mean.size() + c], mean_tolerance);
        }
      }
    }
  }
  [[nodiscard]] std::size_t next() const noexcept { return next_; }

 private:
  const inf_llm_file& file_;
  tally& counted_;
  kvkeep::cache<Policy> cache_;
  std::size_t next_ = 0;
};

}  // namespace

report run_infllm(const json& json_file) {
  const inf_llm_file file(json_file);
  tally counted;
  std::string detail;
  std::size_t chunks = 0;
  bool single = true;
  {
    run whole(file, file.policy, counted);
    for (const file_call& call : file.calls) {
      whole.append(call.count);
      whole.check_retrieved(call.chunks.back());
      chunks += call.chunks.size();
      for (const file_chunk& chunk : call.chunks) single = single && chunk.count == 1;
    }
    whole.check_representatives();
  }
  if (file.frozen == 1) {
    run cut(file, file.policy, counted);
    for (const file_call& call : file.calls) {
      for (const file_chunk& chunk : call.chunks) {
        cut.append(chunk.count);
        cut.check_retrieved(chunk);
        cut.check_sums();
      }
    }
    cut.check_representatives();
    if (!file.blocks.empty()) {  // there is something to be in a file
      const std::size_t frames = file.hot_units * (file.per_head ? file.data.shape.query_heads : 1);
      const std::size_t blocks = (file.policy.block_size + kvkeep::block_tokens - 1) / kvkeep::block_tokens;
      const std::size_t bytes =
          2 * kvkeep::f32::key_block_bytes(file.data.shape.head_dim) * blocks * file.data.shape.kv_heads;
      run tiered(file, file.policy, counted,
                 {.hot_bytes = frames * bytes, .path = private_path(), .keeps = file.keeps});
      for (const file_call& call : file.calls) {
        for (const file_chunk& chunk : call.chunks) {
          tiered.append(chunk.count);
          tiered.check_retrieved(chunk);
          if (!file.per_head) tiered.check_hot(chunk);
        }
      }
    }
    detail += "; the same cut at execution blocks";
  }
  if (single) {
    const kvkeep::inf_llm policy{.sinks = file.policy.n_init,
                                 .window = file.policy.n_local,
                                 .block_size = file.policy.block_size,
                                 .count = file.policy.topk,
                                 .representatives = file.policy.repr_topk,
                                 .max_tokens = file.policy.max_tokens,
                                 .chooses = file.policy.chooses};
    for (const std::size_t most : {std::size_t{1}, std::size_t{7}, file.data.tokens}) {
      run chunked(file, policy, counted);
      while (chunked.next() < file.data.tokens) chunked.append((std::min)(most, file.data.tokens - chunked.next()));
      chunked.check_representatives();
    }
    detail += "; the default policy in steps of 1, 7 and all";
  }
  return {false,
          fmt::format("{} calls, {} execution blocks, {} blocks, {} lists, max abs error {:.1e}{}", file.calls.size(),
                      chunks, file.blocks.size(), counted.compared(), counted.largest_error(), detail)};
}

}  // namespace golden
