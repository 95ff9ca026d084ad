// row_sketch: vectors of many heads in 128 bytes, and estimates of their dot products with a query.
//
// The heads of a layer see the same tokens, so that a vector of all of them lies near a space of fewer dimensions than its heads
// have each by itself. Its main directions are learned from the first vectors, once; of every vector the components along them are
// stored, a byte each. A scan of them costs two cache lines a vector, however many heads there are; what it gives are estimates that
// tell apart what is worth a closer look, and that know nothing of what lies in other directions.
#ifndef KVKEEP_MEMORY_ROW_SKETCH_HPP
#define KVKEEP_MEMORY_ROW_SKETCH_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/detail/simd.hpp"
#include "kvkeep/memory/byte_shadow.hpp"
#include "kvkeep/memory/directions.hpp"
#include "kvkeep/memory/dot_rows.hpp"
#include "kvkeep/memory/side_by_side.hpp"
#include "kvkeep/policy/select/retrieve_blocks.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

class row_sketch {
 public:
  /// Components that are stored of a vector, a byte each.
  static constexpr std::size_t parts = 128;

  /// `rows` vectors of `length` a unit and layer, each looked up by a query of its own.
  void lay_out(arena& memory, std::size_t layers, std::size_t units, std::size_t rows, std::size_t length) {
    units_ = units;
    rows_ = rows;
    length_ = length;
    codes_ = memory.take<std::uint8_t>(layers * rows * units * parts);
    scales_ = memory.take<float>(layers * rows * units);
    centre_ = memory.take<float>(layers * rows * length);
    directions_ = memory.take<std::int8_t>(layers * rows * parts * length);
    steps_ = memory.take<float>(layers * rows * parts);
    spread_ = memory.take<float>(layers * rows * parts);
    moments_ = memory.take<float>(learned_units * learned_units);
    shares_ = memory.take<float>(2 * parts * learned_units);
    found_ = memory.take<float>(parts * length);
    from_centre_ = memory.take<float>(length);
    query_ = memory.take<std::int8_t>(parts);
  }

  /// Learns centres and directions of a layer from its first vectors, [learned_units][rows][length]. What was encoded before must be
  /// encoded again.
  void learn(std::size_t layer, const float* vectors) noexcept {
    for (std::size_t row = 0; row < rows_; ++row) learn_row(layer * rows_ + row, vectors + row * length_);
  }

  /// Stores the vectors of a unit, [rows][length]. What cannot be estimated, infinite components, counts as centre.
  void encode(std::size_t layer, std::size_t unit, const float* vectors) noexcept {
    for (std::size_t row = 0; row < rows_; ++row) {
      const std::size_t which = layer * rows_ + row;
      std::array<float, parts> components;
      subtract(which, vectors + row * length_);
      project(which, from_centre_.data(), components);
      float most = 1e-30F;
      for (std::size_t p = 0; p < parts; ++p) {
        components[p] /= spread_[which * parts + p];
        most = (std::max)(most, std::abs(components[p]));
      }
      const std::size_t at = which * units_ + unit;
      scales_[at] = most / 127.0F;
      for (std::size_t p = 0; p < parts; ++p) {
        codes_[at * parts + p] = static_cast<std::uint8_t>(to_byte(components[p] * (127.0F / most)) + 128);
      }
    }
  }

  /// Makes a query ready, [length]; false: it is not finite, or so large that products may not be.
  [[nodiscard]] bool ask(std::size_t layer, std::size_t row, const float* query) noexcept {
    const std::size_t which = layer * rows_ + row;
    if (!is_usual(query)) return false;
    std::array<float, parts> components;
    project(which, query, components);
    float most = 1e-30F;
    for (std::size_t p = 0; p < parts; ++p) {
      components[p] *= spread_[which * parts + p];
      most = (std::max)(most, std::abs(components[p]));
    }
    offset_ = 0;
    for (std::size_t p = 0; p < parts; ++p) {
      query_[p] = to_byte(components[p] * (127.0F / most));
      offset_ += 128 * query_[p];
    }
    return true;
  }

  /// Estimates of the products of the query with the vectors of the first `count` units: less the same for all, and times a
  /// factor that is the same for all, so that only their order says something.
  void estimate(std::size_t layer, std::size_t row, std::size_t count, float* out) const noexcept {
    constexpr std::size_t ahead = 16;  // units that are asked for before they are needed
    const std::size_t base = (layer * rows_ + row) * units_;
    side_by_side(count, [&](const stretch_places& at) {
      const std::uint8_t* mine[stretches];
      for (std::size_t j = 0; j < stretches; ++j) {
        mine[j] = codes_.data() + (base + at[j]) * parts;
        const std::uint8_t* const later = codes_.data() + (base + (std::min)(at[j] + ahead, count - 1)) * parts;
        for (std::size_t line = 0; line < parts; line += row_padding) prefetch(later + line);
      }
      vec_int sums[stretches] = {};
      for (std::size_t c = 0; c < parts; c += sizeof(vec_int)) {
        const auto query = load<vec_int>(query_.data() + c);
        for (std::size_t j = 0; j < stretches; ++j) sums[j] = dot_bytes(sums[j], load<vec_int>(mine[j] + c), query);
      }
      for (std::size_t j = 0; j < stretches; ++j) {
        out[at[j]] = scales_[base + at[j]] * static_cast<float>(sum_of(sums[j]) - offset_);
      }
    });
  }

 private:
  [[nodiscard]] static std::int8_t to_byte(float x) noexcept {
    return static_cast<std::int8_t>(std::clamp(std::nearbyint(x), -127.0F, 127.0F));
  }
  /// Whether components are such that squares do not overflow.
  [[nodiscard]] bool is_usual(const float* vector) const noexcept {
    return std::all_of(vector, vector + length_, [](float x) { return is_finite(x) && std::abs(x) < 1e15F; });
  }
  /// from_centre_ = vector - centre, or 0.
  void subtract(std::size_t which, const float* vector) const noexcept {
    const float* const centre = centre_.data() + which * length_;
    const bool usual = is_usual(vector);
    for (std::size_t c = 0; c < length_; ++c) from_centre_[c] = usual ? vector[c] - centre[c] : 0.0F;
  }
  /// The components of a vector along the directions.
  void project(std::size_t which, const float* vector, std::array<float, parts>& out) const noexcept {
    const std::int8_t* const directions = directions_.data() + which * parts * length_;
    const std::size_t whole = length_ / vec_width * vec_width;
    side_by_side(parts, [&](const stretch_places& at) {
      vec sums[stretches] = {};
      for (std::size_t c = 0; c < whole; c += vec_width) {
        const vec x = load(vector + c);
        for (std::size_t j = 0; j < stretches; ++j) {
          sums[j] += x * to_float(widen_i8(load<vec_byte>(directions + at[j] * length_ + c)));
        }
      }
      for (std::size_t j = 0; j < stretches; ++j) {
        float sum = sum_of(sums[j]);
        for (std::size_t c = whole; c < length_; ++c) {
          sum += vector[c] * static_cast<float>(directions[at[j] * length_ + c]);
        }
        out[at[j]] = sum * steps_[which * parts + at[j]];
      }
    });
  }
  /// The product of two vectors less the centre.
  [[nodiscard]] float product(const float* a, const float* b, const float* centre) const noexcept {
    vec sum{};
    const std::size_t whole = length_ / vec_width * vec_width;
    for (std::size_t c = 0; c < whole; c += vec_width) {
      const vec middle = load(centre + c);
      sum += (load(a + c) - middle) * (load(b + c) - middle);
    }
    float rest = 0.0F;
    for (std::size_t c = whole; c < length_; ++c) rest += (a[c] - centre[c]) * (b[c] - centre[c]);
    return sum_of(sum) + rest;
  }

  /// `which` is a layer and row, whose vectors stand rows_ * length_ apart. There are fewer vectors than components, so it is
  /// their products with one another that tell the main directions, as sums of them.
  void learn_row(std::size_t which, const float* vectors) noexcept {
    const auto vector = [&](std::size_t i) { return vectors + i * rows_ * length_; };
    float* const centre = centre_.data() + which * length_;
    std::array<bool, learned_units> usual;
    std::fill_n(centre, length_, 0.0F);
    for (std::size_t i = 0; i < learned_units; ++i) {
      usual[i] = is_usual(vector(i));
      if (usual[i]) add_scaled(centre, 1.0F / static_cast<float>(learned_units), vector(i), length_);
    }
    for (std::size_t i = 0; i < learned_units; ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        const float x = usual[i] && usual[j] ? product(vector(i), vector(j), centre) : 0.0F;
        moments_[i * learned_units + j] = moments_[j * learned_units + i] = x;
      }
    }
    const std::span<float> shares = shares_.first(parts * learned_units);
    main_directions(moments_, learned_units, parts, shares, shares_.subspan(shares.size()));

    std::fill(found_.begin(), found_.end(), 0.0F);
    for (std::size_t i = 0; i < learned_units; ++i) {
      if (!usual[i]) continue;
      subtract(which, vector(i));
      for (std::size_t p = 0; p < parts; ++p) {
        add_scaled(&found_[p * length_], shares[p * learned_units + i], from_centre_.data(), length_);
      }
    }
    for (std::size_t p = 0; p < parts; ++p) {
      straighten(found_.data(), p, length_);
      float most = 1e-30F;
      for (const float x : found_.subspan(p * length_, length_)) most = (std::max)(most, std::abs(x));
      // Whoever asks reads all directions: as bytes they are a quarter of what they would be.
      for (std::size_t c = 0; c < length_; ++c) {
        directions_[(which * parts + p) * length_ + c] = to_byte(found_[p * length_ + c] * (127.0F / most));
      }
      steps_[which * parts + p] = most / 127.0F;
    }

    const std::span<float> spread = spread_.subspan(which * parts, parts);
    std::fill(spread.begin(), spread.end(), 0.0F);
    for (std::size_t i = 0; i < learned_units; ++i) {
      std::array<float, parts> components;
      subtract(which, vector(i));
      project(which, from_centre_.data(), components);
      for (std::size_t p = 0; p < parts; ++p) spread[p] += components[p] * components[p];
    }
    // None much smaller than the others, as later vectors may have more there.
    const float most = *std::max_element(spread.begin(), spread.end());
    for (float& x : spread) {
      x = std::sqrt((std::max)(x, most / 4096.0F) / static_cast<float>(learned_units)) + 1e-15F;
    }
  }

  std::size_t units_ = 0;
  std::size_t rows_ = 1;
  std::size_t length_ = 0;
  std::span<std::uint8_t> codes_;      // [layers][rows][units][parts], 128 more than the signed number
  std::span<float> scales_;            // [layers][rows][units]
  std::span<float> centre_;            // [layers][rows][length]
  std::span<std::int8_t> directions_;  // [layers][rows][parts][length]
  std::span<float> steps_;             // [layers][rows][parts]: that their components are numbers of
  std::span<float> spread_;            // [layers][rows][parts]: that codes are numbers of
  std::span<float> moments_;           // [learned_units][learned_units]
  std::span<float> shares_;            // [2][parts][learned_units]: of the vectors in a direction
  std::span<float> found_;             // [parts][length]: directions as they are learned
  std::span<float> from_centre_;       // [length]

  // The query that was asked.
  std::span<std::int8_t> query_;  // [parts]
  std::int32_t offset_ = 0;       // what the 128 of every code add
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
