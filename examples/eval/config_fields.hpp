#ifndef KVKEEP_EVAL_CONFIG_FIELDS_HPP
#define KVKEEP_EVAL_CONFIG_FIELDS_HPP

#include <nlohmann/json.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace kvkeep_eval {

// An object of a config.json being read, one checked field at a time; null counts as absent, as in Hugging Face's own
// reader. A failure names the file, the field, its value and what is allowed.
class config_fields {
 public:
  // `inside` goes before the names of fields in failures, such as "rope_scaling."; all three must outlive the object.
  config_fields(const nlohmann::json& object, const std::string& path, const char* inside = "")
      : object_(object), path_(path), inside_(inside) {}

  [[noreturn]] void refuse(const std::string& why) const;

  // The field's name as failures give it.
  [[nodiscard]] std::string full_name(const char* name) const { return inside_ + std::string(name); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  [[nodiscard]] const nlohmann::json* find(const char* name) const;

  // A whole number from 1 to 2^24; a missing one is `otherwise`, or a failure.
  [[nodiscard]] std::size_t count(const char* name, std::optional<std::size_t> otherwise = {}) const;

  // A positive, finite number; a missing one is a failure, `otherwise` or nothing.
  [[nodiscard]] double positive(const char* name) const;
  [[nodiscard]] double positive(const char* name, double otherwise) const;
  [[nodiscard]] std::optional<double> find_positive(const char* name) const;

  // An array of `size` positive, finite numbers.
  [[nodiscard]] std::vector<double> positives(const char* name, std::size_t size) const;

  [[nodiscard]] bool flag(const char* name, bool otherwise = false) const;

 private:
  const nlohmann::json& object_;
  const std::string& path_;
  const char* inside_;
};

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_CONFIG_FIELDS_HPP
