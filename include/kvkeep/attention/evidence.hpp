// attention_evidence: by-products of attention, gathered on request: attention mass, single rows of weights, log-sum-exp.
//
//   kvkeep::attention_evidence<kvkeep::by_products{.mass = true}> evidence(cache.evidence_shape());
//   step.attend(layer, q, k, v, out, evidence);
//   for (kvkeep::slot s : cache.step_slots(unit)) {          // before commit, which moves rows to other slots
//     evidence.mass(kv_head)[index(s)]                       // softmax weights of this step's queries, summed
//     cache.position_of(s)                                   // on this token
//   }
//
// What is asked for is a template argument: nothing else is computed or stored. Cost: the weights of a tile are kept as they
// are made (relative to the maximum so far), and scaled once when a query is finished; no score is computed twice.
//
// Where a policy retrieves units or keys, weights are those of the other tokens, in a softmax over all that is read.
#ifndef KVKEEP_ATTENTION_EVIDENCE_HPP
#define KVKEEP_ATTENTION_EVIDENCE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kvkeep/attention/attend_types.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// By-products of attention. All are of one layer and one step.
struct by_products {
  bool mass = false;            ///< softmax weights summed over the step's queries and a kv head's query heads, by slot
  bool mass_by_query = false;   ///< the same for every query head by itself
  bool last_row = false;        ///< the weights of the step's newest query, by query head and slot
  std::size_t window_rows = 0;  ///< the weights of the step's newest so many queries, by query head, query and slot
  bool log_sum_exp = false;     ///< ln of the sum of e^score (sink logit included), by query and query head
};

/// What evidence is sized for; a cache says its own.
struct evidence_shape {
  std::size_t query_heads = 0;
  std::size_t kv_heads = 0;
  std::size_t slots = 0;     ///< slots of storage, a multiple of 16
  std::size_t tokens = 0;    ///< queries of a step, at most
  std::size_t together = 0;  ///< queries that are attended together, at most
  std::size_t regions = 1;   ///< states that are worked on at once: workers, or parts of heads
};

namespace detail {

/// Gathers nothing.
struct no_evidence_wanted {
  [[nodiscard]] static no_observer record(std::size_t) noexcept { return {}; }
  static void take(const no_observer&, std::size_t, std::size_t, std::span<const softmax_state>) noexcept {}
  static void take_states(std::size_t, std::size_t, std::span<const softmax_state>) noexcept {}
};

/// Weights of the rows of one region while their queries are attended, and the maxima they are relative to.
struct weight_record {
  std::span<float> weights{};     // [rows][slots]
  std::span<float> references{};  // [rows][stride]: of a block; NaN, which is no maximum: the block was not read
  std::size_t group = 1;
  std::size_t slots = 0;

  /// References of a row: slots / 16 and what is missing to whole vectors.
  [[nodiscard]] static constexpr std::size_t stride_of(std::size_t slots) noexcept {
    return (slots / block_tokens + vec_width - 1) / vec_width * vec_width;
  }
  [[nodiscard]] float* weights_of(std::size_t row) const noexcept { return weights.data() + row * slots; }
  [[nodiscard]] float* references_of(std::size_t row) const noexcept {
    return references.data() + row * stride_of(slots);
  }
  void clear(std::size_t rows) const noexcept {
    std::fill_n(references.begin(), rows * stride_of(slots), std::numeric_limits<float>::quiet_NaN());
  }
  /// Turns the references of a row into what its weights are to be multiplied by, 0 where the block was not read.
  void scale(std::size_t row, const softmax_state& state) const noexcept {
    float* const factors = references_of(row);
    for (std::size_t i = 0; i < stride_of(slots); i += vec_width) {
      const vec reference = load(factors + i);
      const vec factor = exp_below(reference - splat(state.max)) / splat(state.sum);
      store(factors + i, are_nan(reference) ? vec{} : factor);
    }
  }

  /// The observer of a tile_pass.
  void operator()(std::size_t query, std::size_t head, std::span<const std::uint32_t> blocks,
                  const std::uint16_t* masks, const float* made, float reference) const noexcept {
    const std::size_t row = query * group + head;
    float* const known_of = references_of(row);
    float* const row_weights = weights_of(row);
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      if (masks[b] == 0) continue;
      float& known = known_of[blocks[b]];
      float* const to = row_weights + std::size_t{blocks[b]} * block_tokens;
      const float* const from = made + b * block_tokens;
      if (is_nan(known)) {
        std::copy(from, from + block_tokens, to);
      } else {  // the block was read under another angle: other rows of it, and a maximum that was not larger
        const float shrink = exp_below(known - reference);
        for (std::size_t r = 0; r < block_tokens; ++r) to[r] = (masks[b] >> r & 1U) != 0 ? from[r] : to[r] * shrink;
      }
      known = reference;
    }
  }
};

}  // namespace detail

/// By-products of one attend. Movable; one attend at a time. All memory is taken at construction; bytes() says how much.
template <by_products What>
class attention_evidence {
  static_assert(What.mass || What.mass_by_query || What.last_row || What.window_rows > 0 || What.log_sum_exp,
                "kvkeep: attention_evidence<...> must ask for something; see kvkeep/attention/evidence.hpp");

 public:
  static constexpr by_products what = What;
  /// Whether weights are kept; log-sum-exp needs none.
  static constexpr bool keeps_weights = What.mass || What.mass_by_query || What.last_row || What.window_rows > 0;
  /// What the kernel tells the weights to.
  using record_type = std::conditional_t<keeps_weights, detail::weight_record, no_observer>;

  /// Evidence for `shape`, all 0. Errors: a count of 0; counts that do not fit each other; not enough memory.
  [[nodiscard]] static result<attention_evidence> try_make(const evidence_shape& shape) {
    if (shape.kv_heads == 0) return detail::bad_argument("kv_heads", shape.kv_heads, ">= 1");
    if (shape.query_heads == 0 || shape.query_heads % shape.kv_heads != 0) {
      return detail::bad_argument("query_heads", shape.query_heads,
                                  fmt::format("a multiple of kv_heads = {}, >= 1", shape.kv_heads));
    }
    if (shape.slots == 0 || shape.slots % block_tokens != 0) {
      return detail::bad_argument("slots", shape.slots, "a multiple of 16, >= 16");
    }
    if (shape.tokens == 0) return detail::bad_argument("tokens", shape.tokens, ">= 1");
    if (shape.together == 0) return detail::bad_argument("together", shape.together, ">= 1");
    if (shape.regions == 0) return detail::bad_argument("regions", shape.regions, ">= 1");
    if (const long double floats = floats_of(shape); floats > 1.0e16L) {
      return detail::make_error(errc::capacity, "slots",
                                fmt::format("no machine has memory for {:.3g} weights", static_cast<double>(floats)));
    }
    attention_evidence made(shape, detail::measure);
    detail::arena ruler;
    made.lay_out(ruler);
    made.memory_ = detail::arena(ruler.used());
    if (made.memory_.measuring()) {
      return detail::make_error(errc::capacity, "slots", fmt::format("no memory for {} bytes", ruler.used()));
    }
    made.lay_out(made.memory_);
    made.begin(0);
    std::fill(made.log_sum_exp_.begin(), made.log_sum_exp_.end(), 0.0F);
    return made;
  }
#if KVKEEP_EXCEPTIONS
  explicit attention_evidence(const evidence_shape& shape) : attention_evidence(detail::unwrap(try_make(shape))) {}
#endif

  [[nodiscard]] const evidence_shape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return memory_.used(); }

  /// Softmax weights summed over queries and the kv head's query heads, [slots]. Slots that nobody read have 0.
  [[nodiscard]] std::span<const float> mass(std::size_t kv_head) const noexcept requires(What.mass) {
    return mass_.subspan(kv_head * shape_.slots, shape_.slots);
  }
  /// The same for one query head, [slots].
  [[nodiscard]] std::span<const float> mass_by_query(std::size_t query_head) const noexcept
      requires(What.mass_by_query) {
    return mass_by_query_.subspan(query_head * shape_.slots, shape_.slots);
  }
  /// The weights of the newest query, [slots].
  [[nodiscard]] std::span<const float> last_row(std::size_t query_head) const noexcept requires(What.last_row) {
    return last_row_.subspan(query_head * shape_.slots, shape_.slots);
  }
  /// The weights of query i of the newest rows() queries, oldest first, [slots].
  [[nodiscard]] std::span<const float> window_row(std::size_t query_head, std::size_t i) const noexcept
      requires(What.window_rows > 0) {
    return window_rows_.subspan((query_head * What.window_rows + i) * shape_.slots, shape_.slots);
  }
  /// Rows that window_row has: the step's tokens, at most window_rows.
  [[nodiscard]] std::size_t rows() const noexcept requires(What.window_rows > 0) {
    const std::size_t most = What.window_rows;  // clang 14 reads a template argument's member wrongly by reference
    return std::min(tokens_, most);
  }
  /// ln of the sum of e^score, [query_heads], of query t of the step.
  [[nodiscard]] std::span<const float> log_sum_exp(std::size_t t) const noexcept requires(What.log_sum_exp) {
    return log_sum_exp_.subspan(t * shape_.query_heads, shape_.query_heads);
  }

  /// An error where this is not sized for whoever attends.
  [[nodiscard]] result<void> check(const evidence_shape& wanted) const {
    const auto compare = [](std::string_view name, std::size_t mine, std::size_t wants) -> result<void> {
      if (mine == wants) return {};
      return detail::bad_argument(fmt::format("evidence.shape.{}", name), mine, fmt::format("the cache's: {}", wants));
    };
    if (auto ok = compare("query_heads", shape_.query_heads, wanted.query_heads); !ok) return ok;
    if (auto ok = compare("kv_heads", shape_.kv_heads, wanted.kv_heads); !ok) return ok;
    if (auto ok = compare("slots", shape_.slots, wanted.slots); !ok) return ok;
    if (auto ok = compare("tokens", shape_.tokens, wanted.tokens); !ok) return ok;
    if (auto ok = compare("together", shape_.together, wanted.together); !ok) return ok;
    return compare("regions", shape_.regions, wanted.regions);
  }

  // For whoever attends: begin(); then for some queries of a kv head record() as the observer of attend; then take() and
  // take_states().

  /// Forgets what was gathered; a step of n tokens follows.
  void begin(std::size_t n) noexcept {
    tokens_ = n;
    std::fill(mass_.begin(), mass_.end(), 0.0F);
    std::fill(mass_by_query_.begin(), mass_by_query_.end(), 0.0F);
    std::fill(last_row_.begin(), last_row_.end(), 0.0F);
    std::fill(window_rows_.begin(), window_rows_.end(), 0.0F);
  }
  /// The observer of a region; clear() it before some queries are attended.
  [[nodiscard]] record_type record(std::size_t region) const noexcept {
    record_type made;
    if constexpr (keeps_weights) {
      const std::size_t group = shape_.query_heads / shape_.kv_heads;
      const std::size_t rows = shape_.together * group;
      made.weights = weights_.subspan(region * rows * shape_.slots, rows * shape_.slots);
      const std::size_t stride = detail::weight_record::stride_of(shape_.slots);
      made.references = references_.subspan(region * rows * stride, rows * stride);
      made.group = group;
      made.slots = shape_.slots;
    }
    return made;
  }
  /// Takes what a region recorded of queries first, ... of a kv head, whose final states these are, [queries][group]. Where
  /// the keys of a query were shared out over regions, once for each.
  void take(const record_type& record, std::size_t kv_head, std::size_t first,
            std::span<const softmax_state> states) noexcept {
    if constexpr (keeps_weights) {
      for (std::size_t i = 0; i < states.size(); ++i) record.scale(i, states[i]);
      for (std::size_t b = 0; b < shape_.slots / block_tokens; ++b)
        take_block(record, kv_head, first, states.size(), b);
    }
  }
  /// Takes the final states themselves, once.
  void take_states(std::size_t kv_head, std::size_t first, std::span<const softmax_state> states) noexcept {
    if constexpr (What.log_sum_exp) {
      const std::size_t group = shape_.query_heads / shape_.kv_heads;
      for (std::size_t i = 0; i < states.size(); ++i) {
        log_sum_exp_[(first + i / group) * shape_.query_heads + kv_head * group + i % group] = states[i].log_sum_exp();
      }
    }
  }

 private:
  attention_evidence(const evidence_shape& shape, detail::measure_t) noexcept : shape_(shape) {}

  /// About how many floats lay_out takes, whatever the counts are.
  [[nodiscard]] static long double floats_of(const evidence_shape& shape) noexcept {
    const auto heads = static_cast<long double>(shape.query_heads);
    const auto slots = static_cast<long double>(shape.slots);
    const auto rows = static_cast<long double>(shape.regions) * static_cast<long double>(shape.together) * heads;
    const long double results = 2.0L * heads + heads * (1.0L + static_cast<long double>(What.window_rows));
    return (keeps_weights ? (2.0L * rows + results) * slots : 0.0L) + static_cast<long double>(shape.tokens) * heads;
  }
  void lay_out(detail::arena& memory) {
    const std::size_t rows =
        keeps_weights ? shape_.regions * shape_.together * (shape_.query_heads / shape_.kv_heads) : 0;
    weights_ = memory.take<float>(rows * shape_.slots);
    references_ = memory.take<float>(rows * detail::weight_record::stride_of(shape_.slots));
    mass_ = memory.take<float>(What.mass ? shape_.kv_heads * shape_.slots : 0);
    mass_by_query_ = memory.take<float>(What.mass_by_query ? shape_.query_heads * shape_.slots : 0);
    last_row_ = memory.take<float>(What.last_row ? shape_.query_heads * shape_.slots : 0);
    window_rows_ = memory.take<float>(What.window_rows * shape_.query_heads * shape_.slots);
    log_sum_exp_ = memory.take<float>(What.log_sum_exp ? shape_.tokens * shape_.query_heads : 0);
  }

  /// Takes the weights of a block, whose rows are those of queries `first`, ... of a kv head's query heads.
  void take_block(const record_type& record, std::size_t kv_head, std::size_t first, std::size_t rows,
                  std::size_t block) noexcept {
    using namespace detail;
    const std::size_t group = shape_.query_heads / shape_.kv_heads;
    const std::size_t skipped = tokens_ > What.window_rows ? tokens_ - What.window_rows : 0;
    const auto at = [&](std::span<float> sums, std::size_t row) {
      return sums.data() + row * shape_.slots + block * block_tokens;
    };
    vec mass[block_vectors] = {};
    for (std::size_t i = 0; i < rows; ++i) {
      const float factor = record.references_of(i)[block];
      if (factor == 0.0F) continue;  // not read, and what weights are there is of another step
      const std::size_t query = first + i / group;
      const std::size_t query_head = kv_head * group + i % group;
      const float* const weights = record.weights_of(i) + block * block_tokens;
      for (std::size_t part = 0; part < block_vectors; ++part) {
        const vec weight = load(weights + part * vec_width) * splat(factor);
        const auto add = [&](float* sums) { store(sums + part * vec_width, load(sums + part * vec_width) + weight); };
        if constexpr (What.mass) mass[part] += weight;
        if constexpr (What.mass_by_query) add(at(mass_by_query_, query_head));
        if constexpr (What.last_row) {
          if (query + 1 == tokens_) add(at(last_row_, query_head));
        }
        if constexpr (What.window_rows > 0) {
          if (query >= skipped) add(at(window_rows_, query_head * What.window_rows + query - skipped));
        }
      }
    }
    if constexpr (What.mass) {
      float* const sums = at(mass_, kv_head);
      for (std::size_t part = 0; part < block_vectors; ++part) {
        store(sums + part * vec_width, load(sums + part * vec_width) + mass[part]);
      }
    }
  }

  evidence_shape shape_;
  std::size_t tokens_ = 0;
  detail::arena memory_;
  std::span<float> weights_;        // [regions][queries * group][slots]
  std::span<float> references_;     // [regions][queries * group][stride_of(slots)]
  std::span<float> mass_;           // [kv_heads][slots]
  std::span<float> mass_by_query_;  // [query_heads][slots]
  std::span<float> last_row_;       // [query_heads][slots]
  std::span<float> window_rows_;    // [query_heads][window_rows][slots]
  std::span<float> log_sum_exp_;    // [tokens][query_heads]
};

KVKEEP_NAMESPACE_END

#endif
