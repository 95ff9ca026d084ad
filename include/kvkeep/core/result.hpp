// result<T>: a value or an error. Every fallible function `f` has a form `try_f` that returns one.
#ifndef KVKEEP_CORE_RESULT_HPP
#define KVKEEP_CORE_RESULT_HPP

#include <optional>
#include <utility>
#include <variant>

#include "kvkeep/core/error.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A T or the error that prevented it. Test it with `if (r)`; `*r` and `r->` need a value, `r.error()` an error.
template <class T>
class [[nodiscard]] result {
 public:
  using value_type = T;

  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  result(kvkeep::error failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

  [[nodiscard]] T& operator*() & noexcept { return *std::get_if<0>(&state_); }
  [[nodiscard]] const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
  [[nodiscard]] T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  [[nodiscard]] T* operator->() noexcept { return std::get_if<0>(&state_); }
  [[nodiscard]] const T* operator->() const noexcept { return std::get_if<0>(&state_); }

  [[nodiscard]] const kvkeep::error& error() const noexcept { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, kvkeep::error> state_;
};

/// Success, or the error that prevented it.
template <>
class [[nodiscard]] result<void> {
 public:
  using value_type = void;

  result() = default;
  result(kvkeep::error failure) : failure_(std::move(failure)) {}

  [[nodiscard]] bool has_value() const noexcept { return !failure_.has_value(); }
  [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }
  [[nodiscard]] const kvkeep::error& error() const noexcept { return *failure_; }

 private:
  std::optional<kvkeep::error> failure_;
};

#if KVKEEP_EXCEPTIONS
namespace detail {

[[noreturn]] KVKEEP_COLD inline void throw_error(const error& failure) { throw failure; }

/// The value of a result; throws its error otherwise.
template <class T>
T unwrap(result<T> r) {
  if (!r) throw_error(r.error());
  if constexpr (!std::is_void_v<T>) return *std::move(r);
}

}  // namespace detail
#endif

KVKEEP_NAMESPACE_END

#endif
