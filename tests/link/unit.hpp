// What each of the two units offers; the types named here are free of kvkeep, whose types differ between the units.
#pragma once

#include <cstddef>
#include <vector>

struct unit_report {
  std::size_t held;                  // keys in a StreamingLLM cache of 2 + 6 after 10 tokens
  std::vector<float> outputs;        // [tokens * query_heads * head_dim]
  std::vector<std::size_t> layouts;  // size and alignment of public types
};

unit_report report_baseline();
unit_report report_avx2();
