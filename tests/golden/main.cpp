// kvkeep_golden: runs every golden file of a folder and prints one line a file.
//
//   KVKEEP_GOLDEN_DIR=<folder> kvkeep_golden      the folder's *.json and those of its peers/, default: data/ beside this file
//
// Files of kinds it does not know are skipped; what cannot be read fails. Exit code 1 if a file failed.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "golden.hpp"

namespace {

namespace fs = std::filesystem;
using golden::json;
using golden::report;

struct adapter {
  const char* name;
  report (*run)(const json&);
};

constexpr std::array systems{
    adapter{"streaming_llm", golden::run_streaming_llm},
    adapter{"streaming_llm_policy_fuzz", golden::run_streaming_llm_policy_fuzz},
    adapter{"lm_infinite", golden::run_lm_infinite},
    adapter{"infllm", golden::run_infllm},
    adapter{"sirllm", golden::run_sirllm},
    adapter{"sirllm_policy_fuzz", golden::run_sirllm_policy_fuzz},
    adapter{"infllm_repo_stream_llm", golden::run_infllm_repo_stream_llm},
    adapter{"infllm_repo_infinite_lm", golden::run_infllm_repo_infinite_lm},
    adapter{"unlimiformer", golden::run_unlimiformer},
    adapter{"unlimiformer_llama", golden::run_unlimiformer_llama},
};
constexpr std::array peers{
    adapter{"rope_inv_freq_tables", golden::run_rope_inv_freq_tables},
    adapter{"rope_rerotation", golden::run_rope_rerotation},
    adapter{"ov_cache_rotation", golden::run_ov_cache_rotation},
    adapter{"ov_cache_rotation_poc_dumps", golden::run_ov_cache_rotation},
    adapter{"hf_sliding_window", golden::run_hf_sliding_window},
    adapter{"mlx_rotating_cache", golden::run_mlx_rotating_cache},
    adapter{"et_attention_sink_ring", golden::run_et_attention_sink_ring},
    adapter{"float16_bfloat16_conversions", golden::run_float16_conversions},
    adapter{"ggml_q8_0_blocks", golden::run_ggml_q8_0_blocks},
    adapter{"ggml_q4_0_blocks", golden::run_ggml_q4_0_blocks},
};

template <std::size_t N>
const adapter* find(const std::array<adapter, N>& adapters, const std::string& name) {
  const auto found = std::find_if(adapters.begin(), adapters.end(), [&](const adapter& a) { return name == a.name; });
  return found == adapters.end() ? nullptr : &*found;
}

report run(const fs::path& path) {
  std::ifstream in(path);
  golden::require(in.is_open() && fs::is_regular_file(path), "cannot be read");
  const json file = json::parse(in);
  golden::require(file.is_object(), "not a JSON object");
  if (golden::has(file, "format")) {
    const std::string format = golden::text_field(file, "format");
    golden::require(format == "kv-golden-1", "unknown format {}", format);
    const std::string system = golden::text_field(file, "system");
    if (const adapter* a = find(systems, system)) return a->run(file);
    return golden::skip(fmt::format("the library has no {} yet", system));
  }
  golden::require(!golden::list_field(file, "cases").empty(), "a table without rows");
  if (const adapter* a = find(peers, path.stem().string())) return a->run(file);
  return golden::skip("no adapter for this table");
}

/// The *.json of a folder, by name. Throws where it cannot be listed.
std::vector<fs::path> json_files(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

struct counts {
  std::size_t passed = 0;
  std::size_t failed = 0;
  std::size_t skipped = 0;
};

void print(const char* verdict, const std::string& name, const std::string& detail) {
  fmt::print("{}  {:<40}  {}\n", verdict, name, detail);
}

void run_all(const fs::path& folder, counts& total) {
  std::vector<fs::path> files = json_files(folder);
  if (fs::exists(folder / "peers")) {
    for (fs::path& path : json_files(folder / "peers")) files.push_back(std::move(path));
  }
  golden::require(!files.empty(), "no *.json in it");
  for (const fs::path& path : files) {
    const std::string name = path.lexically_relative(folder).replace_extension().string();
    try {
      const report done = run(path);
      print(done.skipped ? "skip" : "pass", name, done.detail);
      ++(done.skipped ? total.skipped : total.passed);
    } catch (const std::exception& e) {
      print("FAIL", name, e.what());
      ++total.failed;
    }
  }
}

}  // namespace

int main() {
  const char* const set = std::getenv("KVKEEP_GOLDEN_DIR");
  const fs::path folder = set != nullptr ? set : KVKEEP_GOLDEN_DEFAULT_DIR;
  counts total;
  try {
    run_all(folder, total);
  } catch (const std::exception& e) {
    print("FAIL", folder.string(), e.what());
    ++total.failed;
  }
  fmt::print("{} passed, {} failed, {} skipped\n", total.passed, total.failed, total.skipped);
  return total.failed > 0 ? 1 : 0;
}
