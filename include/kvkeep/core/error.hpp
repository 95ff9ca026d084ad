// error: the one type of every failure in kvkeep, as a value and as an exception.
#ifndef KVKEEP_CORE_ERROR_HPP
#define KVKEEP_CORE_ERROR_HPP

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN

/// What kind of failure an error is.
enum class errc : std::uint8_t {
  invalid_argument,  ///< an argument's value, shape or stride is outside what its doc comment allows
  wrong_state,       ///< the call is legal, but not now (a step is open, a layer was attended twice, ...)
  capacity,          ///< the tokens do not fit into what the policy or the step limit allows
  unsupported,       ///< the combination of options cannot work, e.g. rotated keys for a rule that needs raw ones
  io,                ///< a file could not be made, written or read, or holds something else than was written
};

/// A failure: its kind, the argument at fault and one sentence with the value and the allowed range.
/// Also the exception type of the throwing forms. Copying may allocate.
class error final : public std::exception {
 public:
  error(errc code, std::string argument, std::string message)
      : code_(code), argument_(std::move(argument)), message_(std::move(message)) {}

  [[nodiscard]] errc code() const noexcept { return code_; }
  /// The name of the argument at fault, e.g. "window".
  [[nodiscard]] const std::string& argument() const noexcept { return argument_; }
  /// The whole sentence, e.g. "kvkeep: window = 0; allowed: 1 .. 2147483647".
  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  errc code_;
  std::string argument_;
  std::string message_;
};

namespace detail {

/// An invalid_argument error: "kvkeep: <argument> = <value>; allowed: <allowed>".
template <class Value>
[[nodiscard]] KVKEEP_COLD error bad_argument(std::string_view argument, const Value& value, std::string_view allowed) {
  return {errc::invalid_argument, std::string(argument),
          fmt::format("kvkeep: {} = {}; allowed: {}", argument, value, allowed)};
}

/// Any other error: "kvkeep: <sentence>".
[[nodiscard]] KVKEEP_COLD inline error make_error(errc code, std::string_view argument, std::string_view sentence) {
  return {code, std::string(argument), fmt::format("kvkeep: {}", sentence)};
}

}  // namespace detail

KVKEEP_NAMESPACE_END

#endif
