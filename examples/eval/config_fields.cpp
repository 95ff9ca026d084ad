#include "config_fields.hpp"

#include "failure.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>

namespace kvkeep_eval {

namespace {

using nlohmann::json;

bool is_positive(const json& value) {
  return value.is_number() && value.get<double>() > 0 && std::isfinite(value.get<double>());
}

}  // namespace

void config_fields::refuse(const std::string& why) const { throw failure(fmt::format("{}: {}", path_, why)); }

const json* config_fields::find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::size_t config_fields::count(const char* name, std::optional<std::size_t> otherwise) const {
  constexpr std::int64_t largest = std::int64_t{1} << 24;  // keeps every product of two within 64 bits
  const json* const value = find(name);
  if (value == nullptr && otherwise) {
    return *otherwise;
  }
  if (value == nullptr) {
    refuse(fmt::format("{} is missing", full_name(name)));
  }
  if (!value->is_number_integer() || *value < 1 || *value > largest) {
    refuse(fmt::format("{} is {}; it must be a whole number from 1 to {}", full_name(name), value->dump(), largest));
  }
  return value->get<std::size_t>();
}

std::optional<double> config_fields::find_positive(const char* name) const {
  const json* const value = find(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!is_positive(*value)) {
    refuse(fmt::format("{} is {}; it must be a positive number", full_name(name), value->dump()));
  }
  return value->get<double>();
}

double config_fields::positive(const char* name) const {
  const std::optional<double> value = find_positive(name);
  if (!value) {
    refuse(fmt::format("{} is missing", full_name(name)));
  }
  return *value;
}

double config_fields::positive(const char* name, double otherwise) const {
  return find_positive(name).value_or(otherwise);
}

std::vector<double> config_fields::positives(const char* name, std::size_t size) const {
  const json* const values = find(name);
  if (values == nullptr) {
    refuse(fmt::format("{} is missing", full_name(name)));
  }
  if (!values->is_array() || values->size() != size) {
    refuse(fmt::format("{} is {}; it must be a list of {} positive numbers", full_name(name),
                       values->is_array() ? fmt::format("a list of {}", values->size()) : values->dump(), size));
  }
  std::vector<double> out;
  for (const json& value : *values) {
    if (!is_positive(value)) {
      refuse(fmt::format("{} has {}; all of its values must be positive numbers", full_name(name), value.dump()));
    }
    out.push_back(value.get<double>());
  }
  return out;
}

bool config_fields::flag(const char* name, bool otherwise) const {
  const json* const value = find(name);
  if (value == nullptr) {
    return otherwise;
  }
  if (!value->is_boolean()) {
    refuse(fmt::format("{} is {}; it must be true or false", full_name(name), value->dump()));
  }
  return value->get<bool>();
}

}  // namespace kvkeep_eval
