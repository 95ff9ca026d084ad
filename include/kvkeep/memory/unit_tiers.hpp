// unit_tiers: where the rows of memory units lie: all in RAM, or the hot ones in RAM and all in a file.
//
//   options.tiers = {.hot_bytes = std::size_t{1} << 30, .path = "/var/tmp/kv"};
#ifndef KVKEEP_MEMORY_UNIT_TIERS_HPP
#define KVKEEP_MEMORY_UNIT_TIERS_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "kvkeep/codec/cold_codec.hpp"
#include "kvkeep/core/background.hpp"
#include "kvkeep/core/result.hpp"

KVKEEP_NAMESPACE_BEGIN

/// Which unit leaves RAM when another one is needed there. Never one that the queries at hand read. Ties: the one that came first.
namespace hot {

/// The one that was looked up, or read ahead, longest ago (the authors' lru).
struct lru {};
/// The one that came first.
struct fifo {};
/// The one with the smallest score: with every lookup of the layer scores are multiplied by `decay`, and what a unit got of the
/// attention of all heads since is added (InfLLM, section 3.3).
struct decayed {
  float decay = 0.1F;      ///< 0 .. 1; published default 0.1
  bool since_use = false;  ///< retrieval sets the score to 0 first, as the authors' code does (its lru-s)
};

}  // namespace hot

/// One of those rules.
using hot_rule = std::variant<hot::lru, hot::fifo, hot::decayed>;

/// Where units lie. With hot_bytes every unit is written to the file when it is filed, once, and read from there when it is
/// retrieved and not in RAM. What a query reads does not depend on what is hot.
///
/// The file is made new at `path`, with mode 0600, removed with the cache, and emptied by clear. It holds what has been filed, at
/// most cache_bytes::file. Every layer of every unit has a checksum, kept in RAM.
///
/// Errors, errc::io, leave the cache usable and nothing lost: where writing fails, `begin` does, and can be tried again; where
/// reading fails, or what is read is not what was written, `attend` does, or a `commit` of fewer tokens than the step has, which
/// attends once more: the step is open as before, and the same can be tried again, or the step left. A unit that cannot be read any more can be erased (the error names its positions); then the
/// cache goes on without it: its message ends with "(positions A .. B, layer L)".
///
/// Cost: a lookup whose units are in RAM moves nothing; a miss reads a record of the layer and looks once at every frame for the one
/// that leaves, as every lookup does under `decayed`. The file grows by pwrite: where a limit of the process's files (RLIMIT_FSIZE)
/// is below cache_bytes::file, the system sends SIGXFSZ unless that is ignored. A process that is killed leaves the file, and its
/// path is taken until somebody removes it.
struct unit_tiers {
  std::size_t hot_bytes =
      0;  ///< of RAM for the keys and values of units, over all layers; 0: all units lie there. Units of which rows
          ///< are being written take cache_bytes::staging besides
  std::string path{};  ///< of the file
  hot_rule keeps = hot::lru{};
  std::size_t read_ahead =
      0;  ///< units that the lookup ranks next, which are read in the background, 0 .. 65536; fewer
          ///< where frames, or candidates, are fewer than what a query reads and these
  cold_codec
      cold{};  ///< of the file. With fewer bits than the cache's, what a query reads of a unit has them from when it is
               ///< filed on, and so depends on how the stream is cut into steps
  background_ref background{};  ///< reads ahead, and writes after commit; none: `begin` writes
};

/// What happened between the tiers since the cache was made.
struct tier_counters {
  std::uint64_t hits = 0;  ///< units of a layer that a lookup found in a frame, or on the way there
  std::uint64_t misses =
      0;  ///< that it did not; those not written yet are copied, and no byte is read. A layer that is attended
          ///< again after an error counts again
  std::uint64_t read_ahead = 0;     ///< reads that were begun before a lookup asked
  std::uint64_t bytes_read = 0;     ///< from the file
  std::uint64_t bytes_written = 0;  ///< to the file
  std::uint64_t stalls = 0;         ///< times that begin or attend waited for the file
};

namespace detail {

/// An error where an option is out of range or cannot act.
[[nodiscard]] inline result<void> check_tiers(const unit_tiers& tiers, std::size_t head_dim) {
  if (tiers.hot_bytes == 0) {
    const auto idle = [](std::string_view name) {
      return make_error(errc::invalid_argument, fmt::format("tiers.{}", name),
                        fmt::format("tiers.{} is given, and tiers.hot_bytes = 0: all units lie in RAM", name));
    };
    if (!tiers.path.empty()) return idle("path");
    if (tiers.keeps.index() != 0) return idle("keeps");
    if (tiers.read_ahead != 0) return idle("read_ahead");
    if (tiers.cold) return idle("cold");
    if (tiers.background) return idle("background");
    return {};
  }
  if (tiers.path.empty()) return bad_argument("tiers.path", "''", "a path for the units that are not in RAM");
  if (const auto* const rule = std::get_if<hot::decayed>(&tiers.keeps)) {
    if (!(rule->decay >= 0.0F && rule->decay <= 1.0F)) return bad_argument("tiers.keeps.decay", rule->decay, "0 .. 1");
  }
  const std::size_t most = tiers.background ? 65536 : 0;
  if (tiers.read_ahead > most) {
    return bad_argument("tiers.read_ahead", tiers.read_ahead,
                        tiers.background ? "0 .. 65536" : "0 without tiers.background, which reads ahead");
  }
  if (tiers.cold) {
    if (auto ok = tiers.cold.check(head_dim); !ok) return ok;
  }
  return {};
}

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
