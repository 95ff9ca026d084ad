// expect: kvkeep: a rows_view needs a tensor of its own element type
#include <kvkeep/kvkeep.hpp>

#ifdef KVKEEP_GOOD
using element = float;
#else
using element = double;
#endif

int main() {
  Eigen::Tensor<element, 3, Eigen::RowMajor> keys(1, 2, 8);
  const kvkeep::rows_view<const float> view = keys;
  return view.tokens() == 1 ? 0 : 1;
}
