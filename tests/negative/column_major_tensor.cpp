// expect: kvkeep: a rows_view needs a row-major tensor
#include <kvkeep/kvkeep.hpp>

#ifdef KVKEEP_GOOD
constexpr int layout = Eigen::RowMajor;
#else
constexpr int layout = Eigen::ColMajor;  // Eigen's default
#endif

int main() {
  Eigen::Tensor<float, 3, layout> keys(1, 2, 8);
  const kvkeep::rows_view<const float> view = keys;
  return view.data() == keys.data() ? 0 : 1;
}
