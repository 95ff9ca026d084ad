#ifndef KVKEEP_EVAL_TIER_CHOICE_HPP
#define KVKEEP_EVAL_TIER_CHOICE_HPP

#include <kvkeep/kvkeep.hpp>

#include <kvkeep/core/background_thread.hpp>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace kvkeep_eval {

// Where memory units lie, of policies that retrieve them.
struct tier_choice {
  std::size_t hot_bytes = 0;    // 0: in RAM, all of them
  std::filesystem::path spill;  // the file
  std::string codec;            // of the file; empty: that of the cache
  std::size_t read_ahead = 0;   // units, on a thread of its own
};

// What happened between RAM and the file, and how large that was.
struct tier_use {
  std::size_t file_bytes = 0;  // that it could get; 0: there was none
  kvkeep::tier_counters counted;

  // Adds what another cache did.
  void add(const tier_use& other) noexcept;
};

// A line for a table; nothing where there was no file.
[[nodiscard]] std::string tier_note(const std::string& spec, const tier_use& use);

// The names that tier_choice::codec may have.
[[nodiscard]] std::vector<std::string> spill_codecs();

// Whether a policy retrieves memory units.
[[nodiscard]] bool retrieves_units(const kvkeep::any_policy& policy);

// What a cache under `policy` is given; nothing for a policy that retrieves no units. `io` reads ahead and writes.
[[nodiscard]] kvkeep::unit_tiers tiers_for(const tier_choice& choice, const kvkeep::any_policy& policy,
                                           kvkeep::background_ref io);

// A failure where an option cannot act: no policy retrieves units, or there is no --hot-bytes.
void check_tiers(const tier_choice& choice, const std::vector<kvkeep::any_policy>& policies);

// The thread that reads and writes for caches; none where all units are in RAM.
class tier_io {
 public:
  explicit tier_io(const tier_choice& choice);
  [[nodiscard]] kvkeep::background_ref ref() noexcept;

 private:
  std::optional<kvkeep::background_thread> thread_;
};

// What a cache did with its file.
[[nodiscard]] tier_use tier_use_of(const kvkeep::any_cache& cache);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_TIER_CHOICE_HPP
