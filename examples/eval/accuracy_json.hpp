#ifndef KVKEEP_EVAL_ACCURACY_JSON_HPP
#define KVKEEP_EVAL_ACCURACY_JSON_HPP

#include "accuracy.hpp"

#include <nlohmann/json.hpp>

namespace kvkeep_eval {

// An accuracy as a JSON object, with its share and its 95% interval.
[[nodiscard]] nlohmann::ordered_json to_json_value(const accuracy& of);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_ACCURACY_JSON_HPP
