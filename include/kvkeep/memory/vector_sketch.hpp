// vector_sketch: vectors in a few half bytes, and estimates of their dot products with a query.
//
// The keys of a head lie near a space of few dimensions. Its main directions are learned from the first vectors, once; of
// every vector the components along them are stored, four bits each. A scan reads 1/28 of what 4096 floats take, and two cache
// lines at the least; what it gives are estimates, good for choosing which vectors to look at closely. Vectors unlike the first,
// as after a change of text, are estimated less well: no better than their part along the directions that were learned.
#ifndef KVKEEP_MEMORY_VECTOR_SKETCH_HPP
#define KVKEEP_MEMORY_VECTOR_SKETCH_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/types.hpp"
#include "kvkeep/detail/simd.hpp"
#include "kvkeep/memory/byte_shadow.hpp"
#include "kvkeep/memory/directions.hpp"
#include "kvkeep/memory/side_by_side.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

class vector_sketch {
 public:
  /// `rows` vectors a unit and layer, each of query_heads / rows heads.
  void lay_out(arena& memory, const model_shape& shape, std::size_t layers, std::size_t units, std::size_t rows) {
    shape_ = shape;
    units_ = units;
    rows_ = rows;
    const std::size_t dim = shape.head_dim;
    const std::size_t heads = shape.query_heads / rows;
    // A quarter of a head's dimensions; more where a row of them has room for it.
    parts_ = (std::max)(dim / 4, (std::min)(dim, 2 * row_padding / heads));
    parts_ = (parts_ + 15) / 16 * 16;
    stride_ = padded_row(heads * parts_ / 2);
    codes_ = memory.take<std::uint8_t>(layers * rows * units * stride_);
    scales_ = memory.take<float>(layers * rows * units * lanes);
    centre_ = memory.take<float>(layers * shape.query_heads * dim);
    directions_ = memory.take<float>(layers * shape.kv_heads * dim * parts_);
    spread_ = memory.take<float>(layers * shape.query_heads * parts_);
    moments_ = memory.take<float>(dim * dim);
    basis_ = memory.take<float>(2 * parts_ * dim);
    from_centre_ = memory.take<float>(dim);
    components_ = memory.take<float>(heads * parts_);
    first_ = memory.take<std::int8_t>(stride_);
    second_ = memory.take<std::int8_t>(stride_);
    offsets_ = memory.take<float>(lanes);
  }
  /// Components that are stored of a vector.
  [[nodiscard]] std::size_t components() const noexcept { return shape_.query_heads / rows_ * parts_; }

  /// Learns centre and directions of a layer from the first vectors, [count][query_heads][head_dim]. What was encoded before must
  /// be encoded again.
  void learn(std::size_t layer, const float* vectors, std::size_t count) noexcept {
    const std::size_t dim = shape_.head_dim;
    const std::size_t group = shape_.group();
    const std::span<float> centre = centre_of(layer);
    std::fill(centre.begin(), centre.end(), 0.0F);
    const float share = 1.0F / static_cast<float>(count);
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t c = 0; c < centre.size(); ++c) {
        const float x = vectors[i * centre.size() + c];
        centre[c] += is_finite(x) && std::abs(x) < 1e15F ? share * x : 0.0F;
      }
    }
    const auto each = [&](std::size_t head, const auto& take) {
      for (std::size_t i = 0; i < count; ++i) {
        if (subtract(vectors + (i * shape_.query_heads + head) * dim, centre.data() + head * dim)) take();
      }
    };
    for (std::size_t kv = 0; kv < shape_.kv_heads; ++kv) {
      std::fill(moments_.begin(), moments_.end(), 0.0F);
      for (std::size_t head = kv * group; head < (kv + 1) * group; ++head) {
        each(head, [&] {
          for (std::size_t a = 0; a < dim; ++a)
            add_scaled(&moments_[a * dim], from_centre_[a], from_centre_.data(), dim);
        });
      }
      main_directions(moments_, dim, parts_, basis_.first(parts_ * dim), basis_.subspan(parts_ * dim));
      float* const to = directions_.data() + (layer * shape_.kv_heads + kv) * dim * parts_;
      for (std::size_t c = 0; c < dim; ++c) {
        for (std::size_t p = 0; p < parts_; ++p) to[c * parts_ + p] = basis_[p * dim + c];
      }
      for (std::size_t head = kv * group; head < (kv + 1) * group; ++head) {
        const std::span<float> spread = spread_.subspan((layer * shape_.query_heads + head) * parts_, parts_);
        std::fill(spread.begin(), spread.end(), 0.0F);
        each(head, [&] {
          project(layer, head, from_centre_.data(), components_.data());
          for (std::size_t p = 0; p < parts_; ++p) spread[p] += components_[p] * components_[p];
        });
        // None much smaller than the others, as later vectors may have more there.
        const float most = *std::max_element(spread.begin(), spread.end());
        for (float& x : spread) x = std::sqrt((std::max)(x, most / 64.0F) / static_cast<float>(count)) + 1e-15F;
      }
    }
  }

  /// Stores the vectors of a unit, [query_heads][head_dim]. What cannot be estimated, infinite components, counts as centre.
  void encode(std::size_t layer, std::size_t unit, const float* vectors) noexcept {
    const std::span<const float> centre = centre_of(layer);
    const std::size_t dim = shape_.head_dim;
    const std::size_t heads = shape_.query_heads / rows_;
    for (std::size_t row = 0; row < rows_; ++row) {
      for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t head = row * heads + h;
        float* const x = components_.data() + h * parts_;
        if (!subtract(vectors + head * dim, centre.data() + head * dim)) {
          std::fill_n(from_centre_.begin(), dim, 0.0F);
        }
        project(layer, head, from_centre_.data(), x);
        const float* const spread = spread_.data() + (layer * shape_.query_heads + head) * parts_;
        for (std::size_t p = 0; p < parts_; ++p) x[p] /= spread[p];
      }
      const std::size_t at = (layer * rows_ + row) * units_ + unit;
      std::uint8_t* const to = codes_.data() + at * stride_;
      std::fill(to, to + stride_, std::uint8_t{0x88});
      const std::size_t share = of_lane();
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        const std::size_t begin = (std::min)(lane * share, components_.size());
        const std::size_t end = (std::min)(begin + share, components_.size());
        scales_[at * lanes + lane] = encode_lane(begin, end, to);
      }
    }
  }

  /// Makes a query ready, [heads of a row][head_dim]; false: it is not finite, or so large that products may not be.
  [[nodiscard]] bool ask(std::size_t layer, std::size_t row, const float* query) noexcept {
    const std::size_t heads = shape_.query_heads / rows_;
    if (!std::all_of(query, query + heads * shape_.head_dim,
                     [](float x) { return is_finite(x) && std::abs(x) < 1e15F; })) {
      return false;
    }
    float most = 1e-30F;
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t head = row * heads + h;
      float* const y = components_.data() + h * parts_;
      project(layer, head, query + h * shape_.head_dim, y);
      const float* const spread = spread_.data() + (layer * shape_.query_heads + head) * parts_;
      for (std::size_t p = 0; p < parts_; ++p) {
        y[p] *= spread[p];
        most = (std::max)(most, std::abs(y[p]));
      }
    }
    std::fill(first_.begin(), first_.end(), std::int8_t{0});
    std::fill(second_.begin(), second_.end(), std::int8_t{0});
    const float per_step = 127.0F / most;
    std::fill(offsets_.begin(), offsets_.end(), 0.0F);
    for (std::size_t i = 0; i < components_.size(); ++i) {
      const auto whole =
          static_cast<std::int8_t>(std::clamp(std::nearbyint(components_[i] * per_step), -127.0F, 127.0F));
      (i % 2 == 0 ? first_ : second_)[byte_of(i)] = whole;
      offsets_[i / of_lane()] += static_cast<float>(8 * whole);
    }
    return true;
  }

  /// Estimates of the products of the query with the vectors of the units unit_of(0) .. unit_of(count - 1): less the same for all,
  /// and times a factor that is the same for all, so that only their order says something.
  template <class UnitOf>
  void estimate(std::size_t layer, std::size_t row, std::size_t count, const UnitOf& unit_of,
                float* out) const noexcept {
    const std::size_t base = (layer * rows_ + row) * units_;
    const std::size_t ahead = (std::max)(std::size_t{2048} / stride_, std::size_t{1});  // that are asked for early
    side_by_side(count, [&](const stretch_places& at) {
      const std::uint8_t* mine[stretches];
      const std::uint8_t* next[stretches];
      const float* scales[stretches];
      for (std::size_t j = 0; j < stretches; ++j) {
        mine[j] = codes_.data() + (base + unit_of(at[j])) * stride_;
        scales[j] = scales_.data() + (base + unit_of(at[j])) * lanes;
        const std::size_t later = base + unit_of((std::min)(at[j] + ahead, count - 1));
        next[j] = codes_.data() + later * stride_;
        prefetch(scales_.data() + later * lanes);
      }
      vec_int sums[stretches][parallel] = {};
      for (std::size_t line = 0; line < stride_; line += row_padding) {
        for (std::size_t j = 0; j < stretches; ++j) prefetch(next[j] + line);
        for (std::size_t v = 0; v < parallel; ++v) {
          const auto a = load<vec_int>(first_.data() + line + v * sizeof(vec_int));
          const auto b = load<vec_int>(second_.data() + line + v * sizeof(vec_int));
          for (std::size_t j = 0; j < stretches; ++j) {
            const auto codes = load<vec_bits>(mine[j] + line + v * sizeof(vec_int));
            sums[j][v] = dot_bytes(sums[j][v], std::bit_cast<vec_int>(codes & 0x0F0F0F0FU), a);
            sums[j][v] = dot_bytes(sums[j][v], std::bit_cast<vec_int>(codes >> 4 & 0x0F0F0F0FU), b);
          }
        }
      }
      for (std::size_t j = 0; j < stretches; ++j) {
        vec sum{};
        for (std::size_t v = 0; v < parallel; ++v) {
          sum += load(scales[j] + v * vec_width) * (to_float(sums[j][v]) - load(offsets_.data() + v * vec_width));
        }
        out[at[j]] = sum_of(sum);
      }
    });
  }

 private:
  // Components are dealt out to the lanes of 32 bits that a line has, so that a lane's products need one scale.
  static constexpr std::size_t lanes = row_padding / 4;
  static constexpr std::size_t parallel = lanes / vec_width;

  [[nodiscard]] std::span<float> centre_of(std::size_t layer) const noexcept {
    const std::size_t length = shape_.query_heads * shape_.head_dim;
    return centre_.subspan(layer * length, length);
  }
  /// Components of a lane, 8 a line.
  [[nodiscard]] std::size_t of_lane() const noexcept { return stride_ / row_padding * 8; }
  /// The byte of a component; even ones are its lower half.
  [[nodiscard]] std::size_t byte_of(std::size_t i) const noexcept {
    const std::size_t share = of_lane();
    return i % share / 8 * row_padding + i / share * 4 + i % 8 / 2;
  }
  void put(std::uint8_t* to, std::size_t i, std::uint8_t code) const noexcept {
    std::uint8_t& byte = to[byte_of(i)];
    byte = static_cast<std::uint8_t>(i % 2 == 0 ? (byte & 0xF0U) | code
                                                : (byte & 0x0FU) | static_cast<std::uint32_t>(code) << 4U);
  }

  /// Codes of the components begin .. end - 1; what the codes are multiplied by. Large steps blur what is small, and small ones
  /// cut off what is large: tries some and takes the best.
  [[nodiscard]] float encode_lane(std::size_t begin, std::size_t end, std::uint8_t* to) const noexcept {
    float most = 0.0F;
    for (std::size_t i = begin; i < end; ++i) most = (std::max)(most, std::abs(components_[i]));
    if (!(most > 1e-30F) || !(most < 1e15F)) return 0.0F;
    const auto code = [&](std::size_t i, float step) {
      return std::clamp(std::nearbyint(components_[i] / step), -7.0F, 7.0F);
    };
    float best = most / 7.0F;
    float least = (std::numeric_limits<float>::max)();
    for (const float part : {1.0F, 0.8F, 0.62F, 0.45F, 0.3F}) {
      const float step = part * most / 7.0F;
      float error = 0.0F;
      for (std::size_t i = begin; i < end; ++i) {
        const float left = components_[i] - step * code(i, step);
        error += left * left;
      }
      if (error < least) {
        least = error;
        best = step;
      }
    }
    for (std::size_t i = begin; i < end; ++i)
      put(to, i, static_cast<std::uint8_t>(static_cast<int>(code(i, best)) + 8));
    return best;
  }

  /// from_centre_ = vector - centre; false where that is not finite, or so large that its square is not.
  [[nodiscard]] bool subtract(const float* vector, const float* centre) const noexcept {
    bool usual = true;
    for (std::size_t c = 0; c < shape_.head_dim; ++c) {
      from_centre_[c] = vector[c] - centre[c];
      usual = usual && is_finite(from_centre_[c]) && std::abs(from_centre_[c]) < 1e15F;
    }
    return usual;
  }
  /// The components of a head's vector along its directions, [parts].
  void project(std::size_t layer, std::size_t head, const float* vector, float* out) const noexcept {
    const std::size_t dim = shape_.head_dim;
    const float* const from = directions_.data() + (layer * shape_.kv_heads + head / shape_.group()) * dim * parts_;
    for (std::size_t p = 0; p < parts_; p += 16) {
      constexpr std::size_t vectors = 16 / vec_width;
      vec sums[vectors] = {};
      for (std::size_t c = 0; c < dim; ++c) {
        for (std::size_t v = 0; v < vectors; ++v) sums[v] += vector[c] * load(from + c * parts_ + p + v * vec_width);
      }
      for (std::size_t v = 0; v < vectors; ++v) store(out + p + v * vec_width, sums[v]);
    }
  }

  model_shape shape_{};
  std::size_t units_ = 0;
  std::size_t rows_ = 1;
  std::size_t parts_ = 0;          // components that are stored of a head, a multiple of 16
  std::size_t stride_ = 0;         // bytes of a vector
  std::span<std::uint8_t> codes_;  // [layers][rows][units][stride], plus 8
  std::span<float> scales_;        // [layers][rows][units][lanes]
  std::span<float> centre_;        // [layers][query_heads][head_dim]
  std::span<float> directions_;    // [layers][kv_heads][head_dim][parts]
  std::span<float> spread_;        // [layers][query_heads][parts]: that codes are numbers of
  std::span<float> moments_;       // [head_dim][head_dim]
  std::span<float> basis_;         // [2][parts][head_dim]
  std::span<float> from_centre_;   // [head_dim]
  std::span<float> components_;    // [heads of a row][parts]

  // The query that was asked.
  std::span<std::int8_t> first_;   // [stride]: what even components are multiplied by
  std::span<std::int8_t> second_;  // [stride]: the odd ones
  std::span<float> offsets_;       // [lanes]: what the 8 of every code add
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
