// rope, alibi, no_positions: how a model tells its attention where a token stands.
//
// Parameters only; the frequencies are in rope_frequencies.hpp. All are plain aggregates:
//   kvkeep::rope{.theta = 500000.0, .scaling = kvkeep::llama3_scaling{.factor = 32, .original_max_position = 8192}}
#ifndef KVKEEP_POSITION_ENCODING_HPP
#define KVKEEP_POSITION_ENCODING_HPP

#include <cmath>
#include <cstddef>
#include <optional>
#include <variant>
#include <vector>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Which two components of a row turn together, r = rotary_dim.
enum class rope_layout : std::uint8_t {
  half_split,   ///< j and j + r/2 (Llama in Hugging Face form, GPT-NeoX, Falcon)
  interleaved,  ///< 2j and 2j + 1 (GPT-J, llama2.c, ggml's "normal")
};

/// Frequencies divided by factor: position interpolation (Chen et al. 2023, arXiv 2306.15595).
struct linear_scaling {
  double factor = 1.0;  ///< > 0
};

/// theta * factor^(r/(r-2)), fixed: NTK-aware scaling.
struct ntk_scaling {
  double factor = 1.0;  ///< > 0
};

/// NTK-aware scaling that grows with the length, which is fixed at construction (rope::length).
struct dynamic_ntk_scaling {
  double factor = 1.0;                 ///< >= 1
  double original_max_position = 0.0;  ///< trained length in tokens, > 0
};

/// YaRN (Peng et al. 2023, arXiv 2309.00071, section 3.2).
struct yarn_scaling {
  double factor = 1.0;                       ///< > 0
  double original_max_position = 0.0;        ///< trained length in tokens, > 0
  double beta_fast = 32.0;                   ///< rotations above which a frequency is kept
  double beta_slow = 1.0;                    ///< rotations below which it is divided by factor
  std::optional<double> attention_factor{};  ///< default 0.1 ln(factor) + 1, or 1 if factor <= 1
};

/// The wavelength bands of Llama 3.1 (model card and reference code).
struct llama3_scaling {
  double factor = 1.0;                 ///< > 0
  double original_max_position = 0.0;  ///< trained length in tokens, > 0
  double low_freq_factor = 1.0;        ///< > 0
  double high_freq_factor = 4.0;       ///< > low_freq_factor
};

/// LongRoPE (Ding et al. 2024, arXiv 2402.13753): one divisor a frequency, [rotary_dim / 2] each.
struct longrope_scaling {
  std::vector<double> short_factor{};        ///< used up to original_max_position
  std::vector<double> long_factor{};         ///< used beyond
  double factor = 1.0;                       ///< extended over original length, > 0
  double original_max_position = 0.0;        ///< trained length in tokens, > 0
  std::optional<double> attention_factor{};  ///< default sqrt(1 + ln(factor)/ln(original)), or 1 if factor <= 1
};

using rope_scaling = std::variant<std::monostate, linear_scaling, ntk_scaling, dynamic_ntk_scaling, yarn_scaling,
                                  llama3_scaling, longrope_scaling>;

/// Rotary positions (Su et al. 2021, arXiv 2104.09864).
struct rope {
  double theta = 10000.0;      ///< base of the frequencies, finite and > 0
  std::size_t rotary_dim = 0;  ///< components that turn, even, <= head_dim; 0: all of head_dim
  rope_layout layout = rope_layout::half_split;
  rope_scaling scaling{};  ///< default: none
  /// Tokens, for scalings that depend on it, and 0 for others; 0: the policy's largest distance + 1. That holds while nothing is
  /// erased: who erases from a stream whose distances count what is gone gives the length that is meant.
  std::size_t length = 0;
  bool applied = false;  ///< the engine gives q and k rotated at their stream position already
};

/// A bias of -slope * distance on every score (Press et al. 2021, arXiv 2108.12409).
struct alibi {
  std::vector<float> slopes{};  ///< [query_heads]; empty: the published slopes for that number of heads
};

/// Scores without positions.
struct no_positions {};

using position_encoding = std::variant<rope, alibi, no_positions>;

/// The published ALiBi slopes, [query_heads]: 2^(-8/n), 2^(-16/n), ... for n = query_heads a power of two; otherwise those
/// of the next smaller power of two, then every other one of the next larger.
[[nodiscard]] inline std::vector<float> alibi_slopes(std::size_t query_heads) {
  std::vector<float> slopes;
  slopes.reserve(query_heads);
  std::size_t below = 1;
  while (below * 2 <= query_heads) below *= 2;
  const auto slope = [](std::size_t i, std::size_t n) {
    return static_cast<float>(std::exp2(-8.0 * static_cast<double>(i + 1) / static_cast<double>(n)));
  };
  for (std::size_t i = 0; i < below; ++i) slopes.push_back(slope(i, below));
  for (std::size_t i = 0; slopes.size() < query_heads; i += 2) slopes.push_back(slope(i, 2 * below));
  return slopes;
}

KVKEEP_NAMESPACE_END

#endif
