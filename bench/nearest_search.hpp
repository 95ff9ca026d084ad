// nearest_search: what nearest_keys does for one query, of the memory's own parts: the k best keys for each query head of a kv head.
#ifndef KVKEEP_BENCH_NEAREST_SEARCH_HPP
#define KVKEEP_BENCH_NEAREST_SEARCH_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/running_top_k.hpp"
#include "kvkeep/memory/key_scan.hpp"

namespace kvkeep_bench {

class nearest_search {
 public:
  /// For the k best of up to n keys.
  nearest_search(std::size_t heads, std::size_t k, std::size_t n)
      : k_(k), scores_(heads * kvkeep::detail::scanned_keys), best_(heads) {
    kvkeep::detail::arena measured;
    for (auto& of_head : best_) of_head.lay_out(measured, k, n);
    memory_ = kvkeep::detail::arena(measured.used());
    for (auto& of_head : best_) of_head.lay_out(memory_, k, n);
  }

  /// Finds the nearest of `count` blocks of keys for the queries, [heads][head_dim].
  template <class Lane>
  void run(const Lane& lane, std::size_t first, std::size_t count, std::span<const float> queries) {
    using kvkeep::detail::scanned_keys;
    for (auto& of_head : best_) of_head.reset(k_);
    kvkeep::detail::scan_keys(lane, first, count, queries, best_.size(), scores_.data(),
                              [&](std::size_t block, std::size_t blocks) {
                                for (std::size_t h = 0; h < best_.size(); ++h) {
                                  best_[h].offer((block - first) * kvkeep::block_tokens, &scores_[h * scanned_keys],
                                                 std::span(all_).first(blocks));
                                }
                              });
    for (auto& of_head : best_) of_head.finish();
  }
  /// What the last run found for a head, ascending, [k].
  [[nodiscard]] std::span<const std::uint32_t> best(std::size_t head) const { return best_[head].numbers(); }

 private:
  static constexpr std::array<std::uint16_t, kvkeep::detail::scanned_blocks> all_{0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF};

  std::size_t k_;
  std::vector<float> scores_;  // [heads][scanned_keys]
  std::vector<kvkeep::detail::running_top_k> best_;
  kvkeep::detail::arena memory_;
};

}  // namespace kvkeep_bench

#endif
