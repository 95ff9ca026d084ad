// expect: kvkeep: attention_evidence<...> must ask for something
#include <kvkeep/kvkeep.hpp>

int main() {
#ifdef KVKEEP_GOOD
  using evidence = kvkeep::attention_evidence<kvkeep::by_products{.log_sum_exp = true}>;
#else
  using evidence = kvkeep::attention_evidence<kvkeep::by_products{}>;
#endif
  return evidence::try_make({1, 1, 16, 1, 1, 1}) ? 0 : 1;
}
