// cpu_has <feature>...: exits with 0 if this CPU has them all. Built for the plainest one.
#include <cstdio>
#include <cstring>

namespace {

bool has(const char* name) {
#if defined(__x86_64__) || defined(__i386__)
  const struct {
    const char* name;
    bool there;
  } features[] = {
      {"sse4.1", __builtin_cpu_supports("sse4.1") != 0},
      {"avx", __builtin_cpu_supports("avx") != 0},
      {"avx2", __builtin_cpu_supports("avx2") != 0},
      {"fma", __builtin_cpu_supports("fma") != 0},
      {"avx512f", __builtin_cpu_supports("avx512f") != 0},
      {"avx512bw", __builtin_cpu_supports("avx512bw") != 0},
      {"avx512vnni", __builtin_cpu_supports("avx512vnni") != 0},
  };
  for (const auto& feature : features) {
    if (std::strcmp(feature.name, name) == 0) return feature.there;
  }
#endif
  std::printf("unknown feature: %s\n", name);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  bool all = true;
  for (int i = 1; i < argc; ++i) all = has(argv[i]) && all;
  return all ? 0 : 1;
}
