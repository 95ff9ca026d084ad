// Reading golden files and checking numbers: every failure is one exception with a sentence.
#ifndef KVKEEP_TESTS_GOLDEN_CHECK_HPP
#define KVKEEP_TESTS_GOLDEN_CHECK_HPP

#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <kvkeep/kvkeep.hpp>
#include <nlohmann/json.hpp>

namespace golden {

using json = nlohmann::json;
using kvkeep::position;
using positions = std::vector<position>;

/// A check that did not hold, or a file that is not what it should be.
class failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw failure(fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void require(bool holds, fmt::format_string<Args...> text, Args&&... args) {
  if (!holds) fail(text, std::forward<Args>(args)...);
}

/// What came of a file whose checks all held.
struct report {
  bool skipped = false;
  std::string detail;  ///< what was compared, or why nothing was
};
[[nodiscard]] report skip(std::string reason);

// Fields of JSON objects, with their types checked: a number that is not a count is a failure, never a conversion.

[[nodiscard]] const json& field(const json& object, const char* name);
[[nodiscard]] const json& list_field(const json& object, const char* name);
[[nodiscard]] bool has(const json& object, const char* name);  ///< present and not null
[[nodiscard]] std::size_t as_count(const json& value, std::string_view name);
[[nodiscard]] double as_number(const json& value, std::string_view name);
[[nodiscard]] std::size_t count_field(const json& object, const char* name);
[[nodiscard]] double number_field(const json& object, const char* name);
[[nodiscard]] bool bool_field(const json& object, const char* name);
[[nodiscard]] std::string text_field(const json& object, const char* name);
[[nodiscard]] positions positions_field(const json& object, const char* name);
[[nodiscard]] std::vector<double> numbers_field(const json& object, const char* name);
/// A list of numbers rounded to the nearest float.
[[nodiscard]] std::vector<float> floats(const json& list, std::string_view name);

[[nodiscard]] inline position to_position(std::size_t n) noexcept { return static_cast<position>(n); }
[[nodiscard]] positions sorted(positions list);
/// The numbers first, first + 1, ... last - 1.
[[nodiscard]] positions range(position first, position last);

/// Counts what was compared, and the largest error seen.
class tally {
 public:
  /// Two lists of positions must be equal.
  void same(std::string_view what, const positions& ours, const positions& expected);
  void same(std::string_view what, std::size_t ours, std::size_t expected);
  /// Two numbers may differ by `tolerance`; a NaN never passes.
  void near(std::string_view what, double ours, double expected, double tolerance);

  [[nodiscard]] std::size_t compared() const noexcept { return compared_; }
  [[nodiscard]] std::size_t numbers() const noexcept { return numbers_; }
  [[nodiscard]] double largest_error() const noexcept { return largest_error_; }

 private:
  std::size_t compared_ = 0;  // lists and counts
  std::size_t numbers_ = 0;
  double largest_error_ = 0.0;
};

/// Counts the rows of a peer's table. A row is compared with what the peer expects, or it rests on something that this
/// library does otherwise on purpose: then its own rule is checked beside it, and the note says so.
class row_count {
 public:
  void compared() { ++compared_; }
  /// `quirk` is said once, with the names of all rows that share it.
  void beside(const std::string& row, const std::string& quirk, const std::string& ours);
  /// A remark on a row that was compared all the same, said once.
  void remark(const std::string& row, const std::string& text);
  /// "18 rows: 15 compared, 3 quirks checked beside; quirk: ..."; fails if rows are missing or there are none.
  [[nodiscard]] std::string summary(std::size_t rows, const tally& counted) const;

 private:
  struct note {
    std::string text;
    std::vector<std::string> rows;  // names
  };
  std::size_t compared_ = 0;
  std::size_t beside_ = 0;
  std::vector<note> notes_;
};

/// The error of a call that must be refused.
template <class T>
[[nodiscard]] kvkeep::error refused(std::string_view what, const kvkeep::result<T>& result, std::string_view argument) {
  if (result) fail("{} was not refused", what);
  require(result.error().argument() == argument, "{}: the error blames {}, not {}", what, result.error().argument(),
          argument);
  return result.error();
}

}  // namespace golden

#endif
