#include "tier_choice.hpp"

#include "failure.hpp"
#include "text_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace kvkeep_eval {

namespace {

const std::map<std::string, kvkeep::cold_codec>& codecs() {
  static const std::map<std::string, kvkeep::cold_codec> all{{"f32", kvkeep::cold_codec::of<kvkeep::f32>()},
                                                             {"f16", kvkeep::cold_codec::of<kvkeep::f16>()},
                                                             {"bf16", kvkeep::cold_codec::of<kvkeep::bf16>()},
                                                             {"int8", kvkeep::cold_codec::of<kvkeep::int8>()},
                                                             {"int4", kvkeep::cold_codec::of<kvkeep::int4>()}};
  return all;
}

}  // namespace

std::vector<std::string> spill_codecs() {
  std::vector<std::string> out;
  for (const auto& [name, codec] : codecs()) {
    out.push_back(name);
  }
  return out;
}

bool retrieves_units(const kvkeep::any_policy& policy) {
  return policy.visit([](const auto& preset) {
    return requires { typename std::remove_cvref_t<decltype(preset.rules().select)>::lookup_type; };
  });
}

kvkeep::unit_tiers tiers_for(const tier_choice& choice, const kvkeep::any_policy& policy, kvkeep::background_ref io) {
  if (choice.hot_bytes == 0 || !retrieves_units(policy)) {
    return {};
  }
  return {.hot_bytes = choice.hot_bytes,
          .path = choice.spill.string(),
          .read_ahead = choice.read_ahead,
          .cold = choice.codec.empty() ? kvkeep::cold_codec() : codecs().at(choice.codec),
          .background = io};
}

void check_tiers(const tier_choice& choice, const std::vector<kvkeep::any_policy>& policies) {
  if (choice.hot_bytes == 0) {
    if (!choice.spill.empty() || !choice.codec.empty() || choice.read_ahead != 0) {
      throw failure("--spill, --spill-codec and --read-ahead need --hot-bytes");
    }
    return;
  }
  if (choice.spill.empty()) {
    throw failure("--hot-bytes needs --spill, a file for the units that are not in RAM");
  }
  if (std::none_of(policies.begin(), policies.end(), retrieves_units)) {
    throw failure("--hot-bytes is for policies that retrieve memory units, such as inf_llm; none of these does");
  }
}

void tier_use::add(const tier_use& other) noexcept {
  file_bytes = std::max(file_bytes, other.file_bytes);
  counted.hits += other.counted.hits;
  counted.misses += other.counted.misses;
  counted.read_ahead += other.counted.read_ahead;
  counted.bytes_read += other.counted.bytes_read;
  counted.bytes_written += other.counted.bytes_written;
  counted.stalls += other.counted.stalls;
}

std::string tier_note(const std::string& spec, const tier_use& use) {
  if (use.file_bytes == 0) {
    return {};
  }
  const kvkeep::tier_counters& t = use.counted;
  const std::uint64_t asked = std::max<std::uint64_t>(t.hits + t.misses, 1);
  return fmt::format(
      "{}: of {} units that layers looked up {:.1f}% were in RAM; {} MiB written, {} MiB read, {} waits\n", spec,
      grouped(t.hits + t.misses), 100.0 * static_cast<double>(t.hits) / static_cast<double>(asked),
      grouped(t.bytes_written >> 20U), grouped(t.bytes_read >> 20U), grouped(t.stalls));
}

tier_io::tier_io(const tier_choice& choice) {
  if (choice.hot_bytes != 0) {
    thread_.emplace();
  }
}

kvkeep::background_ref tier_io::ref() noexcept {
  return thread_ ? kvkeep::background_ref(*thread_) : kvkeep::background_ref();
}

tier_use tier_use_of(const kvkeep::any_cache& cache) {
  return {.file_bytes = static_cast<std::size_t>(cache.bytes().file), .counted = cache.tiers()};
}

}  // namespace kvkeep_eval
