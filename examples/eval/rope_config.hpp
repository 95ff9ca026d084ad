#ifndef KVKEEP_EVAL_ROPE_CONFIG_HPP
#define KVKEEP_EVAL_ROPE_CONFIG_HPP

#include "config_fields.hpp"

#include <kvkeep/position/encoding.hpp>

#include <cstddef>

namespace kvkeep_eval {

// The rotary positions that a config.json asks for, in rows of `head_dim`: rope_theta, and the scaling in rope_scaling
// or rope_parameters, as Hugging Face transformers 5 reads them. A failure names what is malformed or not supported.
[[nodiscard]] kvkeep::rope parse_rope(const config_fields& config, std::size_t head_dim);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_ROPE_CONFIG_HPP
