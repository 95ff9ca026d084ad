// rotate_row: turns one row by the angles of a position, in double, rounded once.
#ifndef KVKEEP_POSITION_ROTATE_HPP
#define KVKEEP_POSITION_ROTATE_HPP

#include <cmath>
#include <cstddef>
#include <span>

#include "kvkeep/core/types.hpp"
#include "kvkeep/position/encoding.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Fills cosine and sine, [pairs] each, for an angle of `at` positions; negative turns backwards.
/// The product is exact: what double rounds off of it is added as a small angle, so that the error does not grow with the
/// position.
inline void fill_angles(position at, std::span<const double> inverse, std::span<double> cosine,
                        std::span<double> sine) noexcept {
  for (std::size_t j = 0; j < inverse.size(); ++j) {
    const double angle = static_cast<double>(at) * inverse[j];
    const double rest = std::fma(static_cast<double>(at), inverse[j], -angle);
    const double c = std::cos(angle);
    const double s = std::sin(angle);
    const double rest_c = std::cos(rest);
    const double rest_s = std::sin(rest);
    cosine[j] = c * rest_c - s * rest_s;
    sine[j] = s * rest_c + c * rest_s;
  }
}

/// out = in turned by the angles, both [head_dim]; components beyond 2 * cosine.size() are copied. The rotated ones are
/// multiplied by `factor` (the attention factor of scaled RoPE; 1 where it was applied before). `in` may be `out`.
template <class Out>
inline void rotate_row(rope_layout layout, std::span<const double> cosine, std::span<const double> sine, double factor,
                       std::span<const float> in, Out* out) noexcept {
  const std::size_t pairs = cosine.size();
  const std::size_t step = layout == rope_layout::half_split ? 1 : 2;
  const std::size_t apart = layout == rope_layout::half_split ? pairs : 1;
  for (std::size_t j = 0; j < pairs; ++j) {
    const double x = static_cast<double>(in[j * step]);
    const double y = static_cast<double>(in[j * step + apart]);
    out[j * step] = static_cast<Out>(factor * (x * cosine[j] - y * sine[j]));
    out[j * step + apart] = static_cast<Out>(factor * (x * sine[j] + y * cosine[j]));
  }
  for (std::size_t c = 2 * pairs; c < in.size(); ++c) out[c] = static_cast<Out>(in[c]);
}

KVKEEP_NAMESPACE_END

#endif
