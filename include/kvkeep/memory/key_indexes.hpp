// key_indexes: the indexes of dropped keys, one of each layer and kv head.
#ifndef KVKEEP_MEMORY_KEY_INDEXES_HPP
#define KVKEEP_MEMORY_KEY_INDEXES_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kvkeep/core/key_index.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The indexes of all layers and kv heads that dropped keys are read in, of the same rows. Once one of them failed, nothing is
/// asked of them until they are cleared.
template <key_index Index>
class key_indexes {
 public:
  using settings = typename Index::settings;

  /// Makes `count` indexes of up to `most` keys.
  [[nodiscard]] result<void> make(const settings& how, std::size_t count, std::size_t dimension, std::size_t most) {
    indexes_.reserve(count);
    while (indexes_.size() < count) {
      auto made = Index::try_make(how, dimension, most);
      if (!made) return made.error();
      indexes_.push_back(std::move(*made));
    }
    return {};
  }
  /// What failed, if anything did.
  [[nodiscard]] result<void> check() const {
    if (!failure_) return {};
    return make_error(
        failure_->code(), "index",
        fmt::format("the index of dropped keys is not whole, so that no step can begin before clear(): {}",
                    failure_->message()));
  }

  /// Adds the key [dimension] that read(i) gives to index i, for all of them.
  template <class Read>
  void add(std::size_t row, const Read& read) {
    for (std::size_t i = 0; i < indexes_.size() && !failure_; ++i) {
      note(indexes_[i].try_add(static_cast<std::uint32_t>(row), read(i)));
    }
  }
  /// Removes a row from all of them.
  void remove(std::size_t row) {
    for (std::size_t i = 0; i < indexes_.size() && !failure_; ++i) {
      note(indexes_[i].try_remove(static_cast<std::uint32_t>(row)));
    }
  }
  void clear() {
    failure_.reset();
    for (Index& index : indexes_) note(index.try_clear());
  }
  /// The rows that index i finds for a query among the up to found.size() best, ascending, each once, and none but those of
  /// which is_there(row).
  template <class IsThere>
  [[nodiscard]] result<std::span<std::uint32_t>> search(std::size_t i, std::span<const float> query,
                                                        std::span<std::uint32_t> found, const IsThere& is_there) {
    const auto count = indexes_[i].try_search(query, found.size(), found);
    if (!count) return count.error();
    const auto begin = found.begin();
    auto end = begin + static_cast<std::ptrdiff_t>((std::min)(*count, found.size()));
    end = std::remove_if(begin, end, [&](std::uint32_t row) { return !is_there(row); });
    std::sort(begin, end);
    end = std::unique(begin, end);
    return found.first(static_cast<std::size_t>(end - begin));
  }

 private:
  void note(const result<void>& done) {
    if (!done && !failure_) failure_ = done.error();
  }

  std::vector<Index> indexes_;
  std::optional<error> failure_;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
