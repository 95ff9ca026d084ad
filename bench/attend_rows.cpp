// The rows attend/<policy>/<dtype>/<shape>/n<tokens>/q<queries>/t<threads>.
#include <memory>
#include <utility>

#include "kvkeep/kvkeep.hpp"
#include "layer_ring.hpp"
#include "read_limit.hpp"
#include "rival.hpp"
#include "rows.hpp"
#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

/// The problems in the order of rows, without threads.
std::vector<problem> problems() {
  std::vector<problem> out;
  for (const problem& shape : {problem{.query_heads = 32, .kv_heads = 8, .head_dim = 128},
                               problem{.query_heads = 32, .kv_heads = 32, .head_dim = 128},
                               problem{.query_heads = 8, .kv_heads = 8, .head_dim = 64}}) {
    for (const std::size_t tokens : {1024U, 4096U, 16384U, 65536U}) {
      for (const std::size_t queries : {1U, 64U, 512U}) {
        out.push_back(shape);
        out.back().tokens = tokens;
        out.back().queries = queries;
      }
    }
  }
  return out;
}

/// The other libraries that rows are compared with: Eigen, and OpenBLAS where its products of matrices count.
std::vector<baseline> baselines_of(const problem& size) {
  std::vector<baseline> out{{std::make_shared<rival>(size, attend_eigen), "eigen"}};
#ifdef KVKEEP_BENCH_OPENBLAS
  if (size.queries > 1) out.push_back({std::make_shared<rival>(size, attend_openblas), "openblas"});
#endif
  return out;
}

/// One policy and codec in one mode. Compared, in this order of preference, with the same cache attended by one thread, with
/// the same cache without by-products, and with the cache of another policy.
void attend_row(benchmark::State& state, const cache_kind& kind, const problem& size, const call_mode& mode,
                const effort& how_long) {
  const std::vector<baseline> others = baselines_of(size);
  std::shared_ptr<read_limit> limit;
  const bool cold = how_long.seconds > 0.0;  // who only wants to see that the row works need not wait for the filling
  call_log log;
  call_log log_of_partner;
  const auto make = [&](std::size_t placement) {
    line_up out{.baselines = others};
    std::shared_ptr<layer_ring> partner;
    const auto make_partner = [&] {
      partner = std::make_shared<layer_ring>(cache_kind_of(kind.partner, kind.dtype), size, mode, cold, log_of_partner);
    };
    const bool with_policy = mode.threads == 1 && !mode.mass && kind.partner != kind.policy;
    // Who is made first differs: memory that was asked for first may be the better one.
    if (with_policy && placement % 2 == 1) make_partner();
    const auto ring = std::make_shared<layer_ring>(kind, size, mode, cold, log);
    if (with_policy && placement % 2 == 0) make_partner();

    out.bytes = ring->bytes();
    out.subject = std::make_shared<cache_contender>(ring, mode, mode.threads, &log);
    if (!limit) limit = std::make_shared<read_limit>(static_cast<std::size_t>(out.bytes), size.threads);
    out.read_limit = limit;
    if (mode.threads > 1) {
      out.partner = std::make_shared<cache_contender>(ring, call_mode{.mass = mode.mass}, mode.threads);
      out.partner_counter = "speedup_over_t1";
      out.faster = true;
    } else if (mode.mass) {
      out.partner = std::make_shared<cache_contender>(ring, call_mode{}, mode.threads);
      out.partner_counter = "ratio_to_plain";
    } else if (with_policy) {
      out.partner = std::make_shared<cache_contender>(partner, mode, mode.threads);
      out.partner_counter = fmt::format("ratio_to_{}", kind.partner);
    }
    return out;
  };
  measure(state, make, true, how_long);
  if (log.first_seconds.empty()) return;  // an error
  state.counters["begin_us"] = 1e6 * median(log.begin_seconds);
  state.counters["first_layer_us"] = 1e6 * median(log.first_seconds);
  state.SetLabel(std::string(limit->pattern()));
}

void read_limit_row(benchmark::State& state, const cache_kind& kind, const problem& size, const effort& how_long) {
  const std::size_t bytes = kind.layer_bytes(size, size.tokens);
  const auto limit = std::make_shared<read_limit>(bytes, size.threads);
  const auto make = [&](std::size_t) {
    return line_up{
        .subject = limit, .read_limit = limit, .baselines = baselines_of(size), .bytes = static_cast<double>(bytes)};
  };
  measure(state, make, false, how_long);
  state.SetLabel(std::string(limit->pattern()));
}

void rival_row(benchmark::State& state, const problem& size, rival_kernel kernel, const effort& how_long) {
  const std::size_t bytes = cache_kind_of("dense", "f32").layer_bytes(size, size.tokens);
  const auto make = [&](std::size_t) {
    line_up out{.subject = std::make_shared<rival>(size, kernel), .bytes = static_cast<double>(bytes)};
    out.read_limit = std::make_shared<read_limit>(bytes, size.threads);
    out.baselines = {{kernel == attend_eigen ? out.subject : std::make_shared<rival>(size, attend_eigen), "eigen"}};
    return out;
  };
  measure(state, make, false, how_long);
}

}  // namespace

std::vector<row> attend_rows() {
  std::vector<row> rows;
  const auto add = [&](std::string_view who, std::string_view dtype, const problem& size, auto run) {
    rows.push_back({fmt::format("attend/{}/{}/{}", who, dtype, size.name()),
                    [=](benchmark::State& state, const effort& how_long) { run(state, size, how_long); }});
  };
  const auto add_rival = [&](std::string_view name, const problem& size, rival_kernel kernel) {
    add(name, "f32", size, [=](benchmark::State& state, const problem& each, const effort& how_long) {
      rival_row(state, each, kernel, how_long);
    });
  };
  for (problem size : problems()) {
    for (const cache_kind& kind : cache_kinds()) {
      for (const std::size_t threads : {1U, 2U}) {
        size.threads = threads;
        for (const bool mass : {false, true}) {
          add(fmt::format("{}{}", kind.policy, mass ? "+mass" : ""), kind.dtype, size,
              [=](benchmark::State& state, const problem& each, const effort& how_long) {
                attend_row(state, kind, each, {.threads = threads, .mass = mass}, how_long);
              });
        }
        if (size.queries > 1 || kind.policy != "dense") continue;
        add("read_limit", kind.dtype, size, [=](benchmark::State& state, const problem& each, const effort& how_long) {
          read_limit_row(state, kind, each, how_long);
        });
      }
    }
    size.threads = 1;
    add_rival("eigen", size, attend_eigen);
#ifdef KVKEEP_BENCH_OPENBLAS
    add_rival("openblas", size, attend_openblas);
#endif
#ifdef KVKEEP_BENCH_LIBTORCH
    add_rival("libtorch", size, attend_libtorch);
#endif
  }
  return rows;
}

}  // namespace kvkeep_bench
