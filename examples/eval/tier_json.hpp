#ifndef KVKEEP_EVAL_TIER_JSON_HPP
#define KVKEEP_EVAL_TIER_JSON_HPP

#include "tier_choice.hpp"

#include <nlohmann/json.hpp>

namespace kvkeep_eval {

// Null where there was no file.
[[nodiscard]] inline nlohmann::ordered_json tier_json(const tier_use& use) {
  if (use.file_bytes == 0) {
    return nullptr;
  }
  return {{"file_bytes", use.file_bytes},         {"hits", use.counted.hits},
          {"misses", use.counted.misses},         {"read_ahead", use.counted.read_ahead},
          {"bytes_read", use.counted.bytes_read}, {"bytes_written", use.counted.bytes_written},
          {"stalls", use.counted.stalls}};
}

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TIER_JSON_HPP
