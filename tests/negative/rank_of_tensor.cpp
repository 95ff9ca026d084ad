// expect: kvkeep: a rows_view needs a tensor of rank 3
#include <kvkeep/kvkeep.hpp>

#ifdef KVKEEP_GOOD
using tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
#else
using tensor = Eigen::Tensor<float, 2, Eigen::RowMajor>;
#endif

int main() {
  tensor keys;
  const kvkeep::rows_view<const float> view = keys;
  return view.data() == keys.data() ? 0 : 1;
}
