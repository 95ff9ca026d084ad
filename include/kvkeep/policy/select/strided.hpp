// strided: the tokens just before a query, and every stride-th one of all before.
//
//   A1(i) = the newest tokens, i included          (stride + 1 of them, or stride: `band`)
//   A2(i) = { j <= i : (i - j) mod stride = 0 }    (the column above i, were the stream an image of rows of `stride`)
// Source: Child, Gray, Radford, Sutskever, "Generating Long Sequences with Sparse Transformers", 2019, arXiv 1904.10509,
// section 4.3; code openai/sparse_attention.
#ifndef KVKEEP_POLICY_SELECT_STRIDED_HPP
#define KVKEEP_POLICY_SELECT_STRIDED_HPP

#include <algorithm>
#include <string_view>

#include "kvkeep/policy/select/pattern_parts.hpp"

KVKEEP_NAMESPACE_BEGIN

/// How many tokens A1 of `strided` has.
enum class strided_band : std::uint8_t {
  paper,   ///< stride + 1: max(0, i - stride) .. i
  kernel,  ///< stride: the released kernel's band, i included. Merged, both read the same: i - stride is in A2
};

/// Query i reads A1, A2 or both. Which token A2 reads next is another one for every query, so that no token is ever done with:
/// as a retain rule only A1 alone can evict. Cost: one division a token held and query.
struct strided {
  std::size_t stride = 128;  ///< tokens, >= 1; published 128 (CIFAR-10, ImageNet 64x64)
  strided_band band = strided_band::paper;
  pattern_parts parts = pattern_parts::merged;

  /// What still_read says where a variant needs everything.
  static constexpr std::string_view everything_because =
      "A2 of strided reads every token again, one in each stride of queries, for ever";

  /// 0: both parts, or A1; 1: A2.
  [[nodiscard]] constexpr std::size_t variants() const noexcept { return parts == pattern_parts::merged ? 1 : 2; }
  [[nodiscard]] constexpr std::size_t variant(const unit_place& place) const noexcept {
    return detail::half_of(parts, place) == detail::pattern_half::second ? 1 : 0;
  }
  [[nodiscard]] constexpr kvkeep::scope scope() const noexcept {
    if (parts == pattern_parts::merged) return kvkeep::scope::sequence;
    return parts == pattern_parts::by_layer ? kvkeep::scope::layer : kvkeep::scope::kv_head;
  }
  [[nodiscard]] constexpr bool reads(std::size_t variant, position query, position key) const noexcept {
    const position age = query - key;
    if (variant == 0 && age < newest()) return true;
    return (variant == 1 || parts == pattern_parts::merged) && age % static_cast<position>(stride) == 0;
  }

  // What still_read asks.

  [[nodiscard]] constexpr pattern_need needs(std::size_t variant) const noexcept {
    return variant == 0 && parts != pattern_parts::merged ? pattern_need::bounded : pattern_need::everything;
  }
  /// The newest query that reads a key.
  [[nodiscard]] constexpr position last_reader(std::size_t variant, position key) const noexcept {
    return needs(variant) == pattern_need::bounded ? key + newest() - 1 : read_for_ever;
  }
  /// Tokens that are needed at once in a stream of so many.
  [[nodiscard]] constexpr std::size_t most_needed(std::size_t variant, std::size_t tokens) const noexcept {
    if (needs(variant) == pattern_need::everything) return tokens;
    return (std::min)(static_cast<std::size_t>(newest()), tokens);
  }

  [[nodiscard]] result<void> check() const {
    if (auto ok = detail::check_tokens("stride", stride, 1); !ok) return ok;
    if (band > strided_band::kernel) {
      return detail::bad_argument("band", static_cast<int>(band), "paper or kernel");
    }
    return detail::check_parts(parts);
  }
  [[nodiscard]] result<void> check_shape(const model_shape& shape) const {
    return detail::check_parts_of(parts, 1, shape);
  }

 private:
  /// Tokens of A1.
  [[nodiscard]] constexpr position newest() const noexcept {
    return static_cast<position>(stride) + (band == strided_band::paper ? 1 : 0);
  }
};

KVKEEP_NAMESPACE_END

#endif
