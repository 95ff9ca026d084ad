// byte_shadow: vectors in bytes, and between which bounds their dot products with a query therefore lie.
//
// A vector is stored less the mean of the first few, each component in a grain that suits its spread, as one byte a component
// and one scale for 64 of them: what is unusual in one head does not blur the others. What the bytes leave out is known by its
// length, so that a product of integers tells the product of floats up to an error that the inequality of Cauchy and Schwarz
// bounds. Reads 9/32 of what the floats take.
#ifndef KVKEEP_MEMORY_BYTE_SHADOW_HPP
#define KVKEEP_MEMORY_BYTE_SHADOW_HPP

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/detail/simd.hpp"
#include "kvkeep/memory/dot_rows.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// Bytes of the widest vector: rows of bytes are padded to multiples of it.
inline constexpr std::size_t row_padding = 64;
[[nodiscard]] constexpr std::size_t padded_row(std::size_t bytes) noexcept {
  return (bytes + row_padding - 1) / row_padding * row_padding;
}

/// Whether a float is neither infinite nor NaN, whatever the compiler is told about floats.
[[nodiscard]] inline bool is_finite(float x) noexcept {
  return (std::bit_cast<std::int32_t>(x) & 0x7FFFFFFF) < infinity_bits;
}

class byte_shadow {
 public:
  /// The longest vectors whose products 32 bits hold.
  static constexpr std::size_t longest = 65536;

  /// `rows` vectors of `length` a unit and layer, each looked up by a query of its own.
  void lay_out(arena& memory, std::size_t layers, std::size_t units, std::size_t rows, std::size_t length) {
    units_ = units;
    rows_ = rows;
    length_ = length;
    stride_ = padded_row(length);
    pieces_ = stride_ / row_padding;
    bytes_ = memory.take<std::uint8_t>(layers * rows * units * stride_);
    notes_ = memory.take<float>(layers * rows * units * 2 * pieces_);
    norms_ = memory.take<float>(layers * rows * units);
    centre_ = memory.take<float>(layers * rows * length);
    grain_ = memory.take<float>(layers * rows * length);
    high_ = memory.take<std::int8_t>(stride_);
    low_ = memory.take<std::int8_t>(stride_);
    weights_ = memory.take<float>(2 * pieces_);
    offsets_ = memory.take<float>(pieces_);
  }

  /// Takes centre and grains of a layer from the first vectors, [count][rows][length]. Any would do: bounds hold for whatever
  /// is encoded, and are the tighter the more it resembles these. What was encoded before must be encoded again.
  void learn(std::size_t layer, const float* vectors, std::size_t count) noexcept {
    for (std::size_t row = 0; row < rows_; ++row) {
      const std::size_t at = (layer * rows_ + row) * length_;
      const std::span<float> centre = centre_.subspan(at, length_);
      const std::span<float> grain = grain_.subspan(at, length_);
      std::fill(centre.begin(), centre.end(), 0.0F);
      std::fill(grain.begin(), grain.end(), 0.0F);
      float many = 0.0F;
      const auto each = [&](const auto& take) {
        for (std::size_t i = 0; i < count; ++i) {
          const float* const vector = vectors + (i * rows_ + row) * length_;
          if (is_usual(vector)) take(vector);
        }
      };
      each([&](const float* vector) {
        many += 1.0F;
        for (std::size_t c = 0; c < length_; ++c) centre[c] += vector[c];
      });
      for (float& x : centre) x /= (std::max)(many, 1.0F);
      each([&](const float* vector) {
        for (std::size_t c = 0; c < length_; ++c) grain[c] += (vector[c] - centre[c]) * (vector[c] - centre[c]);
      });
      for (float& x : grain) x = std::sqrt(x / (std::max)(many, 1.0F));
      // Powers of two, by which nothing is rounded; none much smaller than its neighbours', as later vectors may have more there.
      for (std::size_t c = 0; c < length_; c += row_padding) {
        const std::span<float> piece = grain.subspan(c, (std::min)(row_padding, length_ - c));
        const float most = (std::max)(*std::max_element(piece.begin(), piece.end()), 1e-15F);
        for (float& x : piece) x = std::ldexp(1.0F, std::ilogb((std::max)(x, most / 16.0F)));
      }
    }
  }

  /// Stores the vectors of a unit, [rows][length].
  void encode(std::size_t layer, std::size_t unit, const float* vectors) noexcept {
    for (std::size_t row = 0; row < rows_; ++row) {
      const std::size_t at = (layer * rows_ + row) * units_ + unit;
      encode_row(vectors + row * length_, (layer * rows_ + row) * length_, at);
    }
  }

  /// Makes a query ready, [length], for `bound` on its layer and row; false: it is of a size for which nothing is promised.
  [[nodiscard]] bool ask(std::size_t layer, std::size_t row, const float* query) noexcept {
    const float* const grain = grain_.data() + (layer * rows_ + row) * length_;
    float most = 0.0F;
    bool finite = true;
    for (std::size_t c = 0; c < length_; ++c) {
      finite = finite && is_finite(query[c]);
      most = (std::max)(most, std::abs(query[c] * grain[c]));
    }
    if (!finite || !(most > smallest_query) || !(most < largest_component)) return false;
    // 14 bits: a signed byte times 128, and seven bits.
    step_ = static_cast<double>(most) / 8191.0;
    const float per_step = 8191.0F / most;
    std::fill(high_.begin(), high_.end(), std::int8_t{0});
    std::fill(low_.begin(), low_.end(), std::int8_t{0});
    double norm = 0.0;
    for (std::size_t piece = 0; piece < pieces_; ++piece) {
      double weight = 0.0;
      double rest = 0.0;
      std::int32_t sum = 0;
      const std::size_t end = (std::min)((piece + 1) * row_padding, length_);
      for (std::size_t c = piece * row_padding; c < end; ++c) {
        const float y = query[c] * grain[c];
        const auto whole = std::clamp(static_cast<std::int32_t>(std::lrint(y * per_step)), -8191, 8191);
        const double left = static_cast<double>(y) - step_ * whole;
        weight += static_cast<double>(y) * static_cast<double>(y);
        rest += left * left;
        norm += static_cast<double>(query[c]) * static_cast<double>(query[c]);
        sum += whole;
        high_[c] = static_cast<std::int8_t>(whole >> 7);
        low_[c] = static_cast<std::int8_t>(whole & 127);
      }
      // What a scale of bytes, of which a piece is at most 127 * 8 long, can be wrong by: steps of the query leave something out,
      // and sums are in fp32.
      const double unsure = std::sqrt(rest) + 0x1p-23 * static_cast<double>(2 * pieces_ + 64) * std::sqrt(weight);
      weights_[piece] = static_cast<float>(127.0 * 8.0 * unsure * slack);
      weights_[pieces_ + piece] = static_cast<float>(std::sqrt(weight) * slack);
      offsets_[piece] = static_cast<float>(128 * sum);
    }
    norm_ = std::sqrt(norm) * slack;
    return true;
  }

  /// Bounds of the products of the query with the vectors of the first `count` units, as fp32 computes them
  /// in `adds` additions one after the other; less the query's product with the centre, which is the same for all.
  void bound(std::size_t layer, std::size_t row, std::size_t count, std::size_t adds, float* lower,
             float* upper) const noexcept {
    constexpr std::size_t together = 4;  // rows lie in pages of their own, which are read side by side
    const std::size_t base = (layer * rows_ + row) * units_;
    const double rounding = 0x1.02p-24 * static_cast<double>(adds) * norm_;
    const std::uint8_t* next[together];
    const auto find = [&](std::size_t i) {
      for (std::size_t j = 0; j < together; ++j) {
        next[j] = bytes_.data() + (base + (std::min)(i + j, count - 1)) * stride_;
      }
    };
    if (count > 0) find(0);
    for (std::size_t i = 0; i < count; i += together) {
      const std::uint8_t* mine[together];
      const float* notes[together];
      std::copy_n(next, together, mine);
      for (std::size_t j = 0; j < together; ++j) {
        notes[j] = notes_.data() + (base + (std::min)(i + j, count - 1)) * 2 * pieces_;
      }
      if (i + together < count) find(i + together);
      float product[together];
      float unsure[together];
      multiply(mine, next, notes, product, unsure);
      for (std::size_t j = 0; j < (std::min)(together, count - i); ++j) {
        const auto norm = static_cast<double>(norms_[base + i + j]);
        const double middle = step_ * static_cast<double>(product[j]);
        const double error = static_cast<double>(unsure[j]) * (1.0 + 0x1p-20 * static_cast<double>(pieces_)) +
                             norm * rounding + 0x1p-23 * std::abs(middle) + 1e-24;
        // Where fp32 may overflow, nothing is known.
        const bool known = norm * norm_ < 1e37 && std::abs(middle) + error < 1e37;
        lower[i + j] = known ? static_cast<float>(middle - error) : std::numeric_limits<float>::lowest();
        upper[i + j] = known ? static_cast<float>(middle + error) : (std::numeric_limits<float>::max)();
      }
    }
  }

 private:
  static constexpr float largest_component = 1e15F;
  static constexpr float smallest_query = 1e-20F;
  static constexpr double slack = 1.0 + 1e-6;  // more than sums in double, and rounding to float, can be wrong

  /// Whether components are such that nothing overflows.
  [[nodiscard]] bool is_usual(const float* vector) const noexcept {
    return std::all_of(vector, vector + length_,
                       [](float x) { return is_finite(x) && std::abs(x) <= largest_component; });
  }
  void encode_row(const float* vector, std::size_t from, std::size_t at) noexcept {
    std::uint8_t* const to = bytes_.data() + at * stride_;
    float* const scales = notes_.data() + at * 2 * pieces_;
    float* const errors = scales + pieces_;
    const auto grains = [&](std::size_t c) {
      return (static_cast<double>(vector[c]) - static_cast<double>(centre_[from + c])) /
             static_cast<double>(grain_[from + c]);
    };
    std::fill(to, to + stride_, std::uint8_t{128});
    std::fill(scales, scales + 2 * pieces_, 0.0F);
    norms_[at] = (std::numeric_limits<float>::max)();
    if (!is_usual(vector)) return;
    double norm = 0.0;
    for (std::size_t piece = 0; piece < pieces_; ++piece) {
      const std::size_t begin = piece * row_padding;
      const std::size_t end = (std::min)(begin + row_padding, length_);
      double most = 0.0;
      for (std::size_t c = begin; c < end; ++c) most = (std::max)(most, std::abs(grains(c)));
      if (most > static_cast<double>(largest_component)) return;
      const auto scale = static_cast<float>((std::max)(most / 127.0, 1e-30));
      double error = 0.0;
      for (std::size_t c = begin; c < end; ++c) {
        const double x = grains(c);
        const double byte = std::clamp(std::nearbyint(x / static_cast<double>(scale)), -127.0, 127.0);
        const double left = x - static_cast<double>(scale) * byte;
        error += left * left;
        norm += static_cast<double>(vector[c]) * static_cast<double>(vector[c]);
        to[c] = static_cast<std::uint8_t>(static_cast<int>(byte) + 128);
      }
      scales[piece] = scale;
      errors[piece] = static_cast<float>(std::sqrt(error) * slack);
    }
    norms_[at] = static_cast<float>(std::sqrt(norm) * slack);
  }

  /// The products of several rows with the query, in steps of it, and how wrong they may be; asks for the rows that come next.
  template <std::size_t N>
  void multiply(const std::uint8_t* const (&rows)[N], const std::uint8_t* const (&next)[N],
                const float* const (&notes)[N], float (&product)[N], float (&unsure)[N]) const noexcept {
    vec sums[N] = {};
    for (std::size_t piece = 0; piece < pieces_; ++piece) {
      const std::size_t begin = piece * row_padding;
      for (std::size_t j = 0; j < N; ++j) prefetch(next[j] + begin);
      vec_int high[N] = {};
      vec_int low[N] = {};
      for (std::size_t c = begin; c < begin + row_padding; c += sizeof(vec_int)) {
        const auto h = load<vec_int>(high_.data() + c);
        const auto l = load<vec_int>(low_.data() + c);
        for (std::size_t j = 0; j < N; ++j) {
          const auto bytes = load<vec_int>(rows[j] + c);
          high[j] = dot_bytes(high[j], bytes, h);
          low[j] = dot_bytes(low[j], bytes, l);
        }
      }
      for (std::size_t j = 0; j < N; ++j) sums[j] += notes[j][piece] * to_float((high[j] << 7) + low[j]);
    }
    for (std::size_t j = 0; j < N; ++j) {
      product[j] = sum_of(sums[j]) - dot_rows(notes[j], offsets_.data(), pieces_);
      unsure[j] = dot_rows(notes[j], weights_.data(), 2 * pieces_);
    }
  }

  std::size_t units_ = 0;
  std::size_t rows_ = 0;
  std::size_t length_ = 0;
  std::size_t stride_ = 0;
  std::size_t pieces_ = 0;         // of row_padding components
  std::span<std::uint8_t> bytes_;  // [layers][rows][units][stride], 128 more than the signed number
  std::span<float> notes_;   // [layers][rows][units][2][pieces]: scales, and lengths of what bytes leave out, in grains
  std::span<float> norms_;   // [layers][rows][units]: length of the vector, or the largest float: unknown
  std::span<float> centre_;  // [layers][rows][length]
  std::span<float> grain_;   // [layers][rows][length]

  // The query that was asked, in steps of step_.
  std::span<std::int8_t> high_;  // [stride]: times 128
  std::span<std::int8_t> low_;   // [stride]
  std::span<float> weights_;     // [2][pieces]: what a scale, and what is left out, make a product wrong by
  std::span<float> offsets_;     // [pieces]: what the 128 of every byte add
  double step_ = 0.0;
  double norm_ = 0.0;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
