// unit_vectors: vectors that represent the units of a stream, and queries that look them up, as a model made them.
//
// A file of them is written by bench_vectors: five numbers of 64 bits (layers, units, queries, heads, head_dim), the vectors as
// floats [layers][units][heads][head_dim], the units there were when each query came as numbers of 64 bits [queries], ascending,
// and the queries as floats [queries][layers][heads][head_dim], turned as a lookup turns them.
#ifndef KVKEEP_BENCH_UNIT_VECTORS_HPP
#define KVKEEP_BENCH_UNIT_VECTORS_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvkeep/core/types.hpp"

namespace kvkeep_bench {

struct unit_vectors {
  std::size_t layers = 0;
  std::size_t units = 0;
  std::size_t queries = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  std::vector<float> vectors{};       // [layers][units][heads][head_dim]
  std::vector<std::uint64_t> when{};  // [queries]: units there were
  std::vector<float> asked{};         // [queries][layers][heads][head_dim]

  [[nodiscard]] std::span<const float> vector(std::size_t layer, std::size_t unit, std::size_t head) const;
  [[nodiscard]] std::span<const float> query(std::size_t query, std::size_t layer, std::size_t head) const;
  /// The first query that came when there were so many units, or the last there is.
  [[nodiscard]] std::size_t query_at(std::size_t units) const;
};

/// Reads a file; throws std::runtime_error. kv_heads must divide its heads.
[[nodiscard]] unit_vectors read_unit_vectors(const std::string& path, std::size_t kv_heads);
void write_unit_vectors(const std::string& path, const unit_vectors& all);

/// Normal numbers of few dimensions, where there is no file: they say nothing of recall.
[[nodiscard]] unit_vectors drawn_unit_vectors(std::size_t units);

/// Vectors and queries in the shape of a larger model, made of those of a small one, whose heads are half as long: a head is
/// two heads side by side. There are not enough of them, so they are taken several times, from parts of the stream that lie a
/// quarter of it apart, vectors and queries alike: each keeps its own statistics and says nothing of what the other parts
/// look for. Heads of a group have the same kv heads.
class widened_vectors {
 public:
  widened_vectors(const unit_vectors& from, const kvkeep::model_shape& shape) : from_(from), shape_(shape) {}

  /// The vector of a unit, [query_heads][head_dim].
  void vector(std::size_t unit, std::span<float> out) const;
  /// The query number `i` after so many units, [query_heads][head_dim].
  void query(std::size_t units, std::size_t i, std::span<float> out) const;

 private:
  /// What half a head is made of.
  struct part {
    std::size_t layer;
    std::size_t head;
    std::size_t shift;  ///< units
  };
  [[nodiscard]] part part_of(std::size_t head, std::size_t half) const;

  const unit_vectors& from_;
  kvkeep::model_shape shape_;
};

}  // namespace kvkeep_bench

#endif
