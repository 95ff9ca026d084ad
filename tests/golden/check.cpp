#include "check.hpp"

#include <algorithm>
#include <numeric>

#include <fmt/ranges.h>

namespace golden {

report skip(std::string reason) { return {true, std::move(reason)}; }

const json& field(const json& object, const char* name) {
  require(object.is_object(), "{} wanted of something that is no object", name);
  const auto found = object.find(name);
  require(found != object.end(), "no field {}", name);
  return *found;
}

const json& list_field(const json& object, const char* name) {
  const json& list = field(object, name);
  require(list.is_array(), "{} is no list", name);
  return list;
}

bool has(const json& object, const char* name) {
  if (!object.is_object()) return false;
  const auto found = object.find(name);
  return found != object.end() && !found->is_null();
}

std::size_t as_count(const json& value, std::string_view name) {
  require(value.is_number_unsigned(), "{} is no count: {}", name, value.dump());
  const auto count = value.get<std::size_t>();
  require(count < (std::size_t{1} << 40), "{} is too large: {}", name, count);
  return count;
}

double as_number(const json& value, std::string_view name) {
  require(value.is_number(), "{} is no number: {}", name, value.dump());
  return value.get<double>();
}

std::size_t count_field(const json& object, const char* name) { return as_count(field(object, name), name); }
double number_field(const json& object, const char* name) { return as_number(field(object, name), name); }

bool bool_field(const json& object, const char* name) {
  require(field(object, name).is_boolean(), "{} is neither true nor false", name);
  return field(object, name).get<bool>();
}

std::string text_field(const json& object, const char* name) {
  require(field(object, name).is_string(), "{} is no text", name);
  return field(object, name).get<std::string>();
}

positions positions_field(const json& object, const char* name) {
  positions out;
  for (const json& value : list_field(object, name)) out.push_back(to_position(as_count(value, name)));
  return out;
}

std::vector<double> numbers_field(const json& object, const char* name) {
  std::vector<double> out;
  for (const json& value : list_field(object, name)) out.push_back(as_number(value, name));
  return out;
}

std::vector<float> floats(const json& list, std::string_view name) {
  require(list.is_array(), "{} is no list", name);
  std::vector<float> out;
  out.reserve(list.size());
  for (const json& value : list) out.push_back(static_cast<float>(as_number(value, name)));
  return out;
}

positions sorted(positions list) {
  std::sort(list.begin(), list.end());
  return list;
}

positions range(position first, position last) {
  positions out(static_cast<std::size_t>((std::max)(last - first, position{0})));
  std::iota(out.begin(), out.end(), first);
  return out;
}

void tally::same(std::string_view what, const positions& ours, const positions& expected) {
  require(ours == expected, "{}: [{}], expected [{}]", what, fmt::join(ours, ","), fmt::join(expected, ","));
  ++compared_;
}

void tally::same(std::string_view what, std::size_t ours, std::size_t expected) {
  require(ours == expected, "{}: {}, expected {}", what, ours, expected);
  ++compared_;
}

void tally::near(std::string_view what, double ours, double expected, double tolerance) {
  const double error = std::abs(ours - expected);
  require(error <= tolerance, "{}: {:.9g}, expected {:.9g} (error {:.2g} > {:.2g})", what, ours, expected, error,
          tolerance);
  ++numbers_;
  largest_error_ = (std::max)(largest_error_, error);
}

void row_count::beside(const std::string& row, const std::string& quirk, const std::string& ours) {
  ++beside_;
  remark(row, fmt::format("quirk: {}, ours: {}, checked", quirk, ours));
}

void row_count::remark(const std::string& row, const std::string& text) {
  auto found = std::find_if(notes_.begin(), notes_.end(), [&](const note& n) { return n.text == text; });
  if (found == notes_.end()) found = notes_.insert(notes_.end(), {text, {}});
  found->rows.push_back(row);
}

std::string row_count::summary(std::size_t rows, const tally& counted) const {
  require(rows > 0, "no rows");
  require(compared_ + beside_ == rows, "{} of {} rows were looked at", compared_ + beside_, rows);
  std::string out = fmt::format("{} rows: {} compared", rows, compared_);
  if (beside_ > 0) out += fmt::format(", {} quirks checked beside", beside_);
  if (counted.compared() > 0) out += fmt::format("; {} lists", counted.compared());
  if (counted.numbers() > 0) {
    out += fmt::format("; {} numbers, max abs error {:.1e}", counted.numbers(), counted.largest_error());
  }
  for (const note& n : notes_) out += fmt::format("; {} ({})", n.text, fmt::join(n.rows, ", "));
  return out;
}

}  // namespace golden
