// rows_view: rows of several heads for a run of tokens, seen in memory that somebody else owns.
//
//   Eigen::Tensor<float, 3, Eigen::RowMajor> q(tokens, heads, head_dim);
//   step.attend(layer, q, k, v, out);                             // made implicitly
//   kvkeep::rows_view<const float> rows{ptr, tokens, heads, head_dim, stride};  // or from a pointer
//
// The only header that includes Eigen. Views are trivially copyable; they own nothing and check nothing.
#ifndef KVKEEP_CORE_TENSOR_HPP
#define KVKEEP_CORE_TENSOR_HPP

#include <cstddef>
#include <type_traits>

#include <unsupported/Eigen/CXX11/Tensor>

#include "kvkeep/core/config.hpp"

KVKEEP_NAMESPACE_BEGIN

namespace detail {

template <class T>
struct eigen_tensor : std::false_type {};

template <class Scalar, int Rank, int Options, class Index>
struct eigen_tensor<Eigen::Tensor<Scalar, Rank, Options, Index>> : std::true_type {
  using scalar = Scalar;
  static constexpr int rank = Rank;
  static constexpr bool row_major = (Options & Eigen::RowMajor) != 0;
};

template <class Plain, int Options, template <class> class MakePointer>
struct eigen_tensor<Eigen::TensorMap<Plain, Options, MakePointer>> : eigen_tensor<std::remove_const_t<Plain>> {};

}  // namespace detail

/// A view of rows, shape [tokens, heads, head_dim], the heads of a token side by side.
/// The row of token t and head h starts at data + t * token_stride + h * head_dim.
template <class T>
class rows_view {
 public:
  constexpr rows_view() = default;

  /// Rows without gaps: the token stride is heads * head_dim.
  constexpr rows_view(T* data, std::size_t tokens, std::size_t heads, std::size_t head_dim)
      : rows_view(data, tokens, heads, head_dim, heads * head_dim) {}

  /// Rows whose tokens lie token_stride elements apart (at least heads * head_dim; checked where the rows are used).
  constexpr rows_view(T* data, std::size_t tokens, std::size_t heads, std::size_t head_dim, std::size_t token_stride)
      : data_(data), tokens_(tokens), heads_(heads), head_dim_(head_dim), token_stride_(token_stride) {}

  /// All of a row-major Eigen tensor or TensorMap of shape [tokens, heads, head_dim].
  template <class Tensor>
    requires(detail::eigen_tensor<std::remove_cvref_t<Tensor>>::value)
  constexpr rows_view(Tensor&& tensor) {
    using traits = detail::eigen_tensor<std::remove_cvref_t<Tensor>>;
    static_assert(traits::row_major,
                  "kvkeep: a rows_view needs a row-major tensor; declare it Eigen::Tensor<float, 3, Eigen::RowMajor>");
    static_assert(traits::rank == 3, "kvkeep: a rows_view needs a tensor of rank 3, [tokens, heads, head_dim]");
    static_assert(std::is_same_v<std::remove_const_t<T>, std::remove_const_t<typename traits::scalar>>,
                  "kvkeep: a rows_view needs a tensor of its own element type, float");
    if constexpr (traits::row_major && traits::rank == 3) {
      data_ = tensor.data();
      tokens_ = static_cast<std::size_t>(tensor.dimension(0));
      heads_ = static_cast<std::size_t>(tensor.dimension(1));
      head_dim_ = static_cast<std::size_t>(tensor.dimension(2));
      token_stride_ = heads_ * head_dim_;
    }
  }

  /// Writable rows seen as read-only ones.
  constexpr operator rows_view<const T>() const requires(!std::is_const_v<T>) {
    return {data_, tokens_, heads_, head_dim_, token_stride_};
  }

  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] constexpr std::size_t heads() const noexcept { return heads_; }
  [[nodiscard]] constexpr std::size_t head_dim() const noexcept { return head_dim_; }
  [[nodiscard]] constexpr std::size_t token_stride() const noexcept { return token_stride_; }

  /// The row of one token and head, [head_dim].
  [[nodiscard]] constexpr T* row(std::size_t token, std::size_t head) const noexcept {
    return data_ + token * token_stride_ + head * head_dim_;
  }

  /// Tokens [first, first + count) of the same rows.
  [[nodiscard]] constexpr rows_view tokens_from(std::size_t first, std::size_t count) const noexcept {
    return {data_ + first * token_stride_, count, heads_, head_dim_, token_stride_};
  }

 private:
  T* data_ = nullptr;
  std::size_t tokens_ = 0;
  std::size_t heads_ = 0;
  std::size_t head_dim_ = 0;
  std::size_t token_stride_ = 0;
};

KVKEEP_NAMESPACE_END

#endif
