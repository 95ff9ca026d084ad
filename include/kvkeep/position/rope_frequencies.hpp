// rope_frequencies: the angle per position of every rotating pair, for all scalings, in double.
#ifndef KVKEEP_POSITION_ROPE_FREQUENCIES_HPP
#define KVKEEP_POSITION_ROPE_FREQUENCIES_HPP

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kvkeep/position/encoding.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Frequencies and the factor that scaled variants put on the rotated components of q and of k.
struct rope_frequencies {
  std::vector<double> inverse;    ///< radians per position, [rotary_dim / 2]
  double attention_factor = 1.0;  ///< multiplies the rotated components of q and k, once each
};

namespace detail {

[[nodiscard]] inline result<void> check_positive(std::string_view name, double value) {
  if (std::isfinite(value) && value > 0.0) return {};
  return bad_argument(name, value, "finite and > 0");
}

/// The components that turn: rope.rotary_dim, or all of head_dim.
[[nodiscard]] inline std::size_t rotary_dim_of(const rope& r, std::size_t head_dim) noexcept {
  return r.rotary_dim == 0 ? head_dim : r.rotary_dim;
}

/// One visitor a scaling: checks its parameters, then bends the plain frequencies in `out`.
struct apply_scaling {
  double theta;
  std::size_t rotary_dim;
  std::size_t length;
  rope_frequencies& out;

  [[nodiscard]] double dim() const { return static_cast<double>(rotary_dim); }

  void set_theta(double base) const {
    for (std::size_t j = 0; j < out.inverse.size(); ++j) {
      out.inverse[j] = std::pow(base, -2.0 * static_cast<double>(j) / dim());
    }
  }

  [[nodiscard]] result<void> operator()(std::monostate) const { return {}; }

  [[nodiscard]] result<void> operator()(const linear_scaling& s) const {
    if (auto ok = check_positive("linear_scaling.factor", s.factor); !ok) return ok;
    for (double& f : out.inverse) f /= s.factor;
    return {};
  }

  [[nodiscard]] result<void> check_theta_power(std::string_view name) const {
    if (rotary_dim > 2) return {};
    return bad_argument("rotary_dim", rotary_dim, fmt::format("> 2 with {}", name));
  }

  [[nodiscard]] result<void> operator()(const ntk_scaling& s) const {
    if (auto ok = check_positive("ntk_scaling.factor", s.factor); !ok) return ok;
    if (auto ok = check_theta_power("ntk_scaling"); !ok) return ok;
    set_theta(theta * std::pow(s.factor, dim() / (dim() - 2.0)));
    return {};
  }

  [[nodiscard]] result<void> operator()(const dynamic_ntk_scaling& s) const {
    if (!(std::isfinite(s.factor) && s.factor >= 1.0)) {
      return bad_argument("dynamic_ntk_scaling.factor", s.factor, "finite and >= 1");
    }
    if (auto ok = check_positive("dynamic_ntk_scaling.original_max_position", s.original_max_position); !ok) return ok;
    if (auto ok = check_theta_power("dynamic_ntk_scaling"); !ok) return ok;
    const double seen = (std::max)(static_cast<double>(length), s.original_max_position);
    const double stretch = s.factor * seen / s.original_max_position - (s.factor - 1.0);
    set_theta(theta * std::pow(stretch, dim() / (dim() - 2.0)));
    return {};
  }

  [[nodiscard]] result<void> operator()(const yarn_scaling& s) const {
    if (auto ok = check_positive("yarn_scaling.factor", s.factor); !ok) return ok;
    if (auto ok = check_positive("yarn_scaling.original_max_position", s.original_max_position); !ok) return ok;
    if (auto ok = check_positive("yarn_scaling.beta_fast", s.beta_fast); !ok) return ok;
    if (auto ok = check_positive("yarn_scaling.beta_slow", s.beta_slow); !ok) return ok;
    if (theta == 1.0) return bad_argument("theta", theta, "not 1 with yarn_scaling");
    const auto pair_of_rotations = [&](double rotations) {
      return dim() * std::log(s.original_max_position / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(theta));
    };
    const double low = (std::max)(std::floor(pair_of_rotations(s.beta_fast)), 0.0);
    double high = (std::min)(std::ceil(pair_of_rotations(s.beta_slow)), dim() - 1.0);
    if (low == high) high += 0.001;
    for (std::size_t j = 0; j < out.inverse.size(); ++j) {
      const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
      out.inverse[j] = out.inverse[j] / s.factor * ramp + out.inverse[j] * (1.0 - ramp);
    }
    out.attention_factor = s.attention_factor.value_or(s.factor <= 1.0 ? 1.0 : 0.1 * std::log(s.factor) + 1.0);
    return check_positive("yarn_scaling.attention_factor", out.attention_factor);
  }

  [[nodiscard]] result<void> operator()(const llama3_scaling& s) const {
    if (auto ok = check_positive("llama3_scaling.factor", s.factor); !ok) return ok;
    if (auto ok = check_positive("llama3_scaling.original_max_position", s.original_max_position); !ok) return ok;
    if (auto ok = check_positive("llama3_scaling.low_freq_factor", s.low_freq_factor); !ok) return ok;
    if (!(std::isfinite(s.high_freq_factor) && s.high_freq_factor > s.low_freq_factor)) {
      return bad_argument("llama3_scaling.high_freq_factor", s.high_freq_factor,
                          fmt::format("finite and > low_freq_factor = {}", s.low_freq_factor));
    }
    for (double& f : out.inverse) {
      const double wavelength = 2.0 * std::numbers::pi / f;
      if (wavelength < s.original_max_position / s.high_freq_factor) continue;
      const double smooth = (std::max)(
          (s.original_max_position / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0);
      f = (1.0 - smooth) * f / s.factor + smooth * f;
    }
    return {};
  }

  [[nodiscard]] result<void> operator()(const longrope_scaling& s) const {
    if (auto ok = check_positive("longrope_scaling.factor", s.factor); !ok) return ok;
    if (auto ok = check_positive("longrope_scaling.original_max_position", s.original_max_position); !ok) return ok;
    const bool beyond = static_cast<double>(length) > s.original_max_position;
    const auto& divisors = beyond ? s.long_factor : s.short_factor;
    const char* const name = beyond ? "longrope_scaling.long_factor" : "longrope_scaling.short_factor";
    if (divisors.size() != out.inverse.size()) {
      return bad_argument(name, fmt::format("{} values", divisors.size()),
                          fmt::format("rotary_dim / 2 = {} values", out.inverse.size()));
    }
    for (std::size_t j = 0; j < divisors.size(); ++j) {
      if (auto ok = check_positive(name, divisors[j]); !ok) return ok;
      out.inverse[j] /= divisors[j];
    }
    out.attention_factor = s.attention_factor.value_or(
        s.factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(s.factor) / std::log(s.original_max_position)));
    return check_positive("longrope_scaling.attention_factor", out.attention_factor);
  }
};

}  // namespace detail

/// The frequencies of `r` for rows of head_dim floats. `length` (tokens) serves the scalings that depend on it where
/// r.length is 0. Errors: theta, rotary_dim (odd or above head_dim), layout or a scaling's parameter out of range.
/// Allocates; meant for construction.
[[nodiscard]] inline result<rope_frequencies> try_rope_frequencies(const rope& r, std::size_t head_dim,
                                                                   std::size_t length) {
  const std::size_t dim = detail::rotary_dim_of(r, head_dim);
  if (auto ok = detail::check_positive("theta", r.theta); !ok) return ok.error();
  if (dim % 2 != 0 || dim > head_dim || dim == 0) {
    return detail::bad_argument("rotary_dim", dim, fmt::format("even, 2 .. head_dim = {}", head_dim));
  }
  if (r.layout != rope_layout::half_split && r.layout != rope_layout::interleaved) {
    return detail::bad_argument("layout", static_cast<int>(r.layout), "half_split or interleaved");
  }
  rope_frequencies out;
  out.inverse.resize(dim / 2);
  const detail::apply_scaling scale{r.theta, dim, r.length != 0 ? r.length : length, out};
  scale.set_theta(r.theta);
  if (auto ok = std::visit(scale, r.scaling); !ok) return ok.error();
  for (const double f : out.inverse) {
    if (!std::isfinite(f)) return detail::bad_argument("rope.scaling", f, "parameters that give finite frequencies");
  }
  return out;
}

/// Whether the frequencies depend on a length, so that rope::length or a policy with a largest distance is needed.
[[nodiscard]] inline bool depends_on_length(const rope_scaling& scaling) noexcept {
  return std::holds_alternative<dynamic_ntk_scaling>(scaling) || std::holds_alternative<longrope_scaling>(scaling);
}

#if KVKEEP_EXCEPTIONS
/// try_rope_frequencies that throws its error.
[[nodiscard]] inline rope_frequencies make_rope_frequencies(const rope& r, std::size_t head_dim, std::size_t length) {
  return detail::unwrap(try_rope_frequencies(r, head_dim, length));
}
#endif

KVKEEP_NAMESPACE_END

#endif
