// Runs the baseline unit on any machine, the AVX2 unit where the machine has it, and compares the two.
#include <cmath>
#include <cstdio>

#include "unit.hpp"

int main() {
  const unit_report baseline = report_baseline();
  if (baseline.held != 8) {
    std::printf("baseline unit: %zu keys held, 8 expected\n", baseline.held);
    return 1;
  }
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("baseline unit ran; this machine has no AVX2, the other unit was linked only");
    return 0;
  }
  const unit_report avx2 = report_avx2();
  if (avx2.layouts != baseline.layouts) {
    for (std::size_t i = 0; i < avx2.layouts.size(); ++i)
      std::printf("layout %zu: baseline %zu, AVX2 %zu\n", i, baseline.layouts[i], avx2.layouts[i]);
    return 2;
  }
  for (std::size_t i = 0; i < baseline.outputs.size(); ++i) {
    if (!(std::abs(baseline.outputs[i] - avx2.outputs[i]) <= 1e-4F)) {
      std::printf("output %zu: baseline %g, AVX2 %g\n", i, baseline.outputs[i], avx2.outputs[i]);
      return 3;
    }
  }
  std::puts("both units ran and agree");
  return 0;
}
