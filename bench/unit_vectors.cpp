#include "unit_vectors.hpp"

#include <algorithm>
#include <fstream>
#include <numeric>
#include <random>
#include <stdexcept>

namespace kvkeep_bench {
namespace {

constexpr std::size_t shifts = 4;  // parts of the stream that heads are taken from

template <class T>
void read(std::ifstream& file, std::vector<T>& to, std::size_t count) {
  to.resize(count);
  file.read(reinterpret_cast<char*>(to.data()), static_cast<std::streamsize>(count * sizeof(T)));
}
template <class T>
void write(std::ofstream& file, const std::vector<T>& from) {
  file.write(reinterpret_cast<const char*>(from.data()), static_cast<std::streamsize>(from.size() * sizeof(T)));
}

}  // namespace

std::span<const float> unit_vectors::vector(std::size_t layer, std::size_t unit, std::size_t head) const {
  return std::span(vectors).subspan(((layer * units + unit) * heads + head) * head_dim, head_dim);
}
std::span<const float> unit_vectors::query(std::size_t query, std::size_t layer, std::size_t head) const {
  return std::span(asked).subspan(((query * layers + layer) * heads + head) * head_dim, head_dim);
}
std::size_t unit_vectors::query_at(std::size_t after) const {
  const auto at = std::lower_bound(when.begin(), when.end(), after);
  return std::min(static_cast<std::size_t>(at - when.begin()), queries - 1);
}

unit_vectors read_unit_vectors(const std::string& path, std::size_t kv_heads) {
  std::ifstream file(path, std::ios::binary);
  std::vector<std::uint64_t> sizes;
  read(file, sizes, 5);
  unit_vectors out{.layers = sizes[0],
                   .units = sizes[1],
                   .queries = sizes[2],
                   .heads = sizes[3],
                   .kv_heads = kv_heads,
                   .head_dim = sizes[4]};
  if (!file || out.units == 0 || out.queries == 0 || out.heads % kv_heads != 0) {
    throw std::runtime_error(path + ": is no file of unit vectors");
  }
  read(file, out.vectors, out.layers * out.units * out.heads * out.head_dim);
  read(file, out.when, out.queries);
  read(file, out.asked, out.queries * out.layers * out.heads * out.head_dim);
  if (!file) throw std::runtime_error(path + ": ends too soon");
  return out;
}

void write_unit_vectors(const std::string& path, const unit_vectors& all) {
  std::ofstream file(path, std::ios::binary);
  write(file, std::vector<std::uint64_t>{all.layers, all.units, all.queries, all.heads, all.head_dim});
  write(file, all.vectors);
  write(file, all.when);
  write(file, all.asked);
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

unit_vectors drawn_unit_vectors(std::size_t units) {
  constexpr std::size_t dimensions = 12;  // in which a head's vectors differ much
  unit_vectors out{.layers = 4, .units = units, .queries = 256, .heads = 6, .kv_heads = 3, .head_dim = 64};
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> directions(out.layers * out.heads * dimensions * out.head_dim);
  for (float& x : directions) x = normal(random) / 8.0F;
  const auto fill = [&](std::span<float> row, std::size_t lane, float spread) {
    for (float& x : row) x = 0.1F * normal(random);
    for (std::size_t d = 0; d < dimensions; ++d) {
      const float weight = spread * normal(random);
      for (std::size_t c = 0; c < row.size(); ++c) {
        row[c] += weight * directions[(lane * dimensions + d) * out.head_dim + c];
      }
    }
  };
  out.vectors.resize(out.layers * units * out.heads * out.head_dim);
  for (std::size_t row = 0; row < out.vectors.size() / out.head_dim; ++row) {
    const std::size_t lane = row / (units * out.heads) * out.heads + row % out.heads;
    fill(std::span(out.vectors).subspan(row * out.head_dim, out.head_dim), lane, 1.0F);
  }
  out.when.assign(out.queries, units);
  out.asked.resize(out.queries * out.layers * out.heads * out.head_dim);
  for (std::size_t row = 0; row < out.asked.size() / out.head_dim; ++row) {
    fill(std::span(out.asked).subspan(row * out.head_dim, out.head_dim), row % (out.layers * out.heads), 1.0F);
  }
  return out;
}

widened_vectors::part widened_vectors::part_of(std::size_t head, std::size_t half) const {
  const std::size_t group = from_.heads / from_.kv_heads;
  const std::size_t member = head % shape_.group();
  const std::size_t kv = 2 * (head / shape_.group()) + half;  // of all kv heads of all layers
  const std::size_t lanes = from_.layers * from_.kv_heads;
  const std::size_t shift = kv / lanes * ((shape_.group() + group - 1) / group) + member / group;
  return {kv % lanes / from_.kv_heads, kv % from_.kv_heads * group + member % group,
          shift % shifts * (from_.units / shifts)};
}

void widened_vectors::vector(std::size_t unit, std::span<float> out) const {
  for (std::size_t i = 0; i < 2 * shape_.query_heads; ++i) {
    const part p = part_of(i / 2, i % 2);
    const auto row = from_.vector(p.layer, (unit + p.shift) % from_.units, p.head);
    std::copy(row.begin(), row.end(), out.begin() + static_cast<std::ptrdiff_t>(i * from_.head_dim));
  }
}

void widened_vectors::query(std::size_t units, std::size_t number, std::span<float> out) const {
  for (std::size_t i = 0; i < 2 * shape_.query_heads; ++i) {
    const part p = part_of(i / 2, i % 2);
    const std::size_t at = (from_.query_at((units + p.shift) % from_.units) + number) % from_.queries;
    const auto row = from_.query(at, p.layer, p.head);
    std::copy(row.begin(), row.end(), out.begin() + static_cast<std::ptrdiff_t>(i * from_.head_dim));
  }
}

}  // namespace kvkeep_bench
