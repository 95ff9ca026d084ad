// hnsw_index: an approximate index of keys, by hnswlib: a graph of near keys in which a search walks towards its query.
//
//   #include <kvkeep/kvkeep.hpp>
//   #include <kvkeep/memory/hnsw_index.hpp>   // CMake: find_package(kvkeep COMPONENTS hnsw), target kvkeep::hnsw
//
//   kvkeep::approximate_keys rule{.count = 32, .max_tokens = 1 << 20, .index = {.search_width = 512}};
//   kvkeep::policy mine{kvkeep::keep{kvkeep::sinks{4}, kvkeep::recent{1024}}, rule, kvkeep::beyond{1024, 1024}, kvkeep::each_token{}};
//
// No other header includes this one. A program that includes <hnswlib/hnswlib.h> itself includes it before this header.
//
// Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
// World graphs", IEEE TPAMI 2020, arXiv 1603.09320; code nmslib/hnswlib, 0.6.2 and later.
#ifndef KVKEEP_MEMORY_HNSW_INDEX_HPP
#define KVKEEP_MEMORY_HNSW_INDEX_HPP

#include "kvkeep/core/config.hpp"

#if !KVKEEP_EXCEPTIONS
#error \
    "kvkeep: kvkeep/memory/hnsw_index.hpp needs exceptions, since hnswlib throws; nearest_keys without an index does not"
#endif
#if !__has_include(<hnswlib/hnswlib.h>)
#error \
    "kvkeep: kvkeep/memory/hnsw_index.hpp needs hnswlib, which is not found; link kvkeep::hnsw (Debian: libhnswlib-dev)"
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

// Without its own vector code: with it, hnswlib 0.6.2 defines functions and variables that two units of a program may not have.
#if defined(NO_MANUAL_VECTORIZATION)
#include <hnswlib/hnswlib.h>
#else
#define NO_MANUAL_VECTORIZATION
#include <hnswlib/hnswlib.h>
#undef NO_MANUAL_VECTORIZATION
#endif

#include "kvkeep/core/key_index.hpp"
#include "kvkeep/memory/dot_rows.hpp"
#include "kvkeep/policy/select/nearest_keys.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// The dot product of two rows with its sign changed. A type of ours, so that hnswlib's templates are made for our instruction
/// set alone, and no other unit of a program shares them.
struct hnsw_distance {
  float value;

  [[nodiscard]] constexpr hnsw_distance operator-() const noexcept { return {-value}; }
  [[nodiscard]] friend constexpr bool operator<(hnsw_distance a, hnsw_distance b) noexcept { return a.value < b.value; }
  [[nodiscard]] friend constexpr bool operator>(hnsw_distance a, hnsw_distance b) noexcept { return a.value > b.value; }
};

}  // namespace detail
KVKEEP_NAMESPACE_END

template <>
class std::numeric_limits<kvkeep::detail::hnsw_distance> {
 public:
  static constexpr bool is_specialized = true;
  [[nodiscard]] static constexpr kvkeep::detail::hnsw_distance max() noexcept {
    return {std::numeric_limits<float>::max()};
  }
};

KVKEEP_NAMESPACE_BEGIN

/// How the graph is built and searched. The names in brackets are hnswlib's.
struct hnsw_settings {
  std::size_t links = 16;          ///< of a key to others, twice as many at the lowest level; 2 .. 256 [M]
  std::size_t build_width = 200;   ///< keys among which those are chosen; 1 .. 65536 [ef_construction]
  std::size_t search_width = 256;  ///< keys that a search ends with, at least twice those wanted; 1 .. 65536 [ef]
  std::uint32_t seed = 100;        ///< of the levels at which keys appear

  [[nodiscard]] result<void> check() const {
    constexpr std::size_t most = 65536;
    if (links < 2 || links > 256) return detail::bad_argument("links", links, "2 .. 256");
    if (build_width < 1 || build_width > most) return detail::bad_argument("build_width", build_width, "1 .. 65536");
    if (search_width >= 1 && search_width <= most) return {};
    return detail::bad_argument("search_width", search_width, "1 .. 65536");
  }
};

/// A key_index that links keys by the angle between them and searches for the largest inner product: linked by inner product, long
/// keys gather the links, and short ones are not come by. A copy of the keys as floats is part of it. Adding a key costs some
/// build_width * links dot products, a search some search_width * links, or 2 k * links where that is more, both less where it
/// meets the same keys again; both allocate. What it finds depends on the keys: measure it (bench/README.md). Keys that are not
/// finite are found last. Removed keys stay in the graph, where searches still pass them, and take their memory until it is
/// cleared. Where hnswlib throws, an error is returned: capacity. One thread at a time, whatever the operation. The same calls
/// give the same results with the same standard library.
class hnsw_index {
 public:
  using settings = hnsw_settings;

  /// About what is allocated once `most` keys of `dimension` floats were added; of it, pages of keys that never came are not
  /// touched.
  [[nodiscard]] static std::size_t bytes(const settings& how, std::size_t dimension, std::size_t most) noexcept {
    const std::size_t links = (2 * how.links + 1) * sizeof(hnswlib::tableint);
    // Of the levels above there is one for every `links` - 1 keys.
    const std::size_t above = ((how.links + 1) * sizeof(hnswlib::tableint) + allocation) / (how.links - 1);
    const std::size_t key = links + (dimension + 1) * sizeof(float) + sizeof(hnswlib::labeltype);
    const std::size_t tables = sizeof(std::mutex) + sizeof(int) + sizeof(char*) + sizeof(hnswlib::vl_type);
    const std::size_t lookup =
        sizeof(void*) * 2 + sizeof(std::pair<hnswlib::labeltype, hnswlib::tableint>) + allocation;
    return sizeof(graph_and_space) + most * (key + above + tables + lookup) + update_locks(most) * sizeof(std::mutex);
  }
  /// An empty index. Errors: a setting, a dimension of 0, `most` out of 1 .. 2^31 - 1, no memory (capacity).
  [[nodiscard]] static result<hnsw_index> try_make(const settings& how, std::size_t dimension, std::size_t most) {
    if (auto ok = how.check(); !ok) return ok.error();
    if (dimension < 1) return detail::bad_argument("dimension", dimension, ">= 1");
    if (most < 1 || most > most_keys) return detail::bad_argument("most", most, fmt::format("1 .. {}", most_keys));
    hnsw_index made(how, dimension, most);
    if (auto ok = made.try_clear(); !ok) return ok.error();
    return made;
  }

  /// Adds a key [dimension]. Errors: more than `most` keys, another dimension, no memory.
  [[nodiscard]] result<void> try_add(std::uint32_t number, std::span<const float> key) {
    if (auto ok = check_row("key", key); !ok) return ok;
    return guarded([&] {
      auto& graph = made_->graph;
      const void* const row = stored_form(key);
      made_->space.how.searching = false;
      // hnswlib links a new key to the best of those not removed that it comes by, of which there must be one. It counts the
      // first of all where that was removed: so it is, for the time being, where any was.
      const bool first_counts = removed_ > 0 && !graph.isMarkedDeleted(graph.enterpoint_node_);
      if (!first_counts) return graph.addPoint(row, number);
      const hnswlib::tableint first = graph.enterpoint_node_;
      graph.markDeletedInternal(first);
      graph.addPoint(row, number);
      graph.unmarkDeletedInternal(first);
    });
  }
  /// Removes a key. Errors: a number that is not there.
  [[nodiscard]] result<void> try_remove(std::uint32_t number) {
    return guarded([&] {
      made_->graph.markDelete(number);
      ++removed_;
    });
  }
  /// As key_index has it. Errors: another dimension; `found` too short; no memory.
  [[nodiscard]] result<std::size_t> try_search(std::span<const float> query, std::size_t k,
                                               std::span<std::uint32_t> found) {
    if (auto ok = check_row("query", query); !ok) return ok.error();
    if (found.size() < k) {
      return detail::bad_argument("found", fmt::format("{} elements", found.size()), fmt::format(">= k = {}", k));
    }
    std::size_t count = 0;
    if (k == 0) return count;
    auto ok = guarded([&] {
      made_->space.how.searching = true;
      made_->graph.setEf((std::max)(how_.search_width, 2 * k));
      for (auto best = made_->graph.searchKnn(query.data(), k); !best.empty(); best.pop()) {
        found[count++] = static_cast<std::uint32_t>(best.top().second);
      }
    });
    if (!ok) return ok.error();
    return count;
  }
  /// Makes it empty again. Errors: no memory; then only another try_clear may work.
  [[nodiscard]] result<void> try_clear() {
    made_.reset();
    removed_ = 0;
    return guarded([&] { made_ = std::make_unique<graph_and_space>(how_, dimension_, most_); });
  }

 private:
  using distance = detail::hnsw_distance;
  static constexpr std::size_t most_keys = 0x7FFFFFFF;
  static constexpr std::size_t allocation = 2 * sizeof(void*);  // what an allocation takes besides

  /// What a distance is of: a stored row is a key divided by its length, and then this length.
  struct measure {
    std::size_t dimension;
    bool searching = false;  // the first row is a query
  };
  [[nodiscard]] static distance distance_of(const void* a, const void* b, const void* of) noexcept {
    const measure& how = *static_cast<const measure*>(of);
    const float* const key = static_cast<const float*>(b);
    float dot = detail::dot_rows(static_cast<const float*>(a), key, how.dimension);
    if (how.searching) dot *= key[how.dimension];
    return detail::is_nan(dot) ? std::numeric_limits<distance>::max() : distance{-dot};
  }
  class key_space final : public hnswlib::SpaceInterface<distance> {
   public:
    explicit key_space(std::size_t dimension) : how{dimension} {}
    std::size_t get_data_size() override { return (how.dimension + 1) * sizeof(float); }
    hnswlib::DISTFUNC<distance> get_dist_func() override { return distance_of; }
    void* get_dist_func_param() override { return &how; }

    measure how;
  };
  struct graph_and_space {
    key_space space;
    hnswlib::HierarchicalNSW<distance> graph;
    std::vector<float> row;  // that is added

    graph_and_space(const settings& how, std::size_t dimension, std::size_t most)
        : space(dimension), graph(&space, most, how.links, how.build_width, how.seed), row(dimension + 1) {
      // 65536 locks would take more than the keys of a small index do.
      if constexpr (requires { graph.link_list_update_locks_.swap(graph.link_list_locks_); }) {
        std::vector<std::mutex>(update_locks(most)).swap(graph.link_list_update_locks_);
      }
    }
  };
  [[nodiscard]] static std::size_t update_locks(std::size_t most) noexcept {
    return std::min<std::size_t>(most, hnswlib::HierarchicalNSW<distance>::max_update_element_locks);
  }

  hnsw_index(const settings& how, std::size_t dimension, std::size_t most) noexcept
      : how_(how), dimension_(dimension), most_(most) {}

  /// A key that is not finite has no direction and a length that is not a number.
  [[nodiscard]] const float* stored_form(std::span<const float> key) noexcept {
    double squares = 0.0;
    for (const float x : key) squares += static_cast<double>(x) * static_cast<double>(x);
    const double length = std::sqrt(squares);
    const bool finite = length <= static_cast<double>(std::numeric_limits<float>::max());
    const double factor = finite && length > 0.0 ? 1.0 / length : 0.0;
    for (std::size_t c = 0; c < dimension_; ++c) {
      made_->row[c] = finite ? static_cast<float>(static_cast<double>(key[c]) * factor) : 0.0F;
    }
    made_->row[dimension_] = finite ? static_cast<float>(length) : std::numeric_limits<float>::quiet_NaN();
    return made_->row.data();
  }
  [[nodiscard]] result<void> check_row(std::string_view name, std::span<const float> row) const {
    if (row.size() == dimension_) return {};
    return detail::bad_argument(name, fmt::format("{} floats", row.size()), fmt::format("dimension = {}", dimension_));
  }
  template <class F>
  [[nodiscard]] static result<void> guarded(const F& f) {
    try {
      f();
    } catch (const std::exception& e) {
      return failed(e.what());
    } catch (...) {
      return failed("it does not say why");
    }
    return {};
  }
  [[nodiscard]] KVKEEP_COLD static error failed(std::string_view why) {
    return detail::make_error(errc::capacity, "index", fmt::format("hnswlib failed: {}", why));
  }

  settings how_;
  std::size_t dimension_;
  std::size_t most_;
  std::size_t removed_ = 0;
  std::unique_ptr<graph_and_space> made_;
};

static_assert(key_index<hnsw_index>);

/// nearest_keys with this index.
using approximate_keys = basic_nearest_keys<hnsw_index>;

KVKEEP_NAMESPACE_END

#endif
