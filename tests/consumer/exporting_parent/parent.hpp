// A library built on kvkeep, whose own users get kvkeep through it.
#pragma once

#include <kvkeep/kvkeep.hpp>

namespace parent {

inline kvkeep::streaming_llm default_policy() { return {.sinks = 2, .window = 6}; }

}  // namespace parent
