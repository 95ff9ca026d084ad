// The rows attend/<policy>/<dtype>/<shape>/n<tokens>/q<queries>/t<threads>.
#include <memory>
#include <type_traits>

#include "cache_contender.hpp"
#include "policy_cases.hpp"
#include "read_limit.hpp"
#include "rival.hpp"
#include "rows.hpp"
#include "statistics.hpp"

namespace kvkeep_bench {
namespace {

/// The problems in the order of rows; threads: 1.
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
class baselines {
 public:
  explicit baselines(const problem& size) {
    add("eigen", size, attend_eigen);
#ifdef KVKEEP_BENCH_OPENBLAS
    if (size.queries > 1) add("openblas", size, attend_openblas);
#endif
  }
  [[nodiscard]] const std::vector<baseline>& all() const noexcept { return all_; }

 private:
  void add(std::string_view name, const problem& size, rival_kernel kernel) {
    kept_.push_back(std::make_unique<rival>(size, kernel));
    all_.push_back({kept_.back().get(), name});
  }

  std::vector<std::unique_ptr<rival>> kept_;
  std::vector<baseline> all_;
};

template <class PolicyCase, class CodecCase>
void attend_row(benchmark::State& state, const problem& size, const effort& how_long) {
  using partner = typename PolicyCase::partner;
  cache_contender<PolicyCase, CodecCase> subject(size);
  std::unique_ptr<contender> compared;
  if constexpr (!std::is_same_v<partner, PolicyCase>) {
    compared = std::make_unique<cache_contender<partner, CodecCase>>(size);
  }
  read_limit limit(static_cast<std::size_t>(subject.bytes()), size.threads);
  const baselines others(size);
  measure(state, {&subject, compared.get(), partner::name, &limit, others.all(), subject.bytes()}, how_long);
  state.counters["begin_us"] = 1e6 * median(subject.begin_seconds());
  state.SetLabel(std::string(limit.pattern()));
}

template <class CodecCase>
void read_limit_row(benchmark::State& state, const problem& size, const effort& how_long) {
  const std::size_t bytes = layer_bytes<typename CodecCase::codec>(size, size.tokens);
  read_limit limit(bytes, size.threads);
  const baselines others(size);
  measure(state, {&limit, nullptr, {}, &limit, others.all(), static_cast<double>(bytes)}, how_long);
  state.SetLabel(std::string(limit.pattern()));
}

void rival_row(benchmark::State& state, const problem& size, rival_kernel kernel, const effort& how_long) {
  const std::size_t bytes = layer_bytes<kvkeep::f32>(size, size.tokens);
  rival subject(size, kernel);
  rival eigen(size, attend_eigen);
  read_limit limit(bytes, size.threads);
  contender* const plain = kernel == attend_eigen ? &subject : &eigen;
  measure(state, {&subject, nullptr, {}, &limit, {{plain, "eigen"}}, static_cast<double>(bytes)}, how_long);
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
  for (const problem& size : problems()) {
    codec_cases::each([&]<class CodecCase>() {
      const std::string_view dtype = CodecCase::codec::name;
      policy_cases::each(
          [&]<class PolicyCase>() { add(PolicyCase::name, dtype, size, attend_row<PolicyCase, CodecCase>); });
      if (size.queries > 1) return;
      for (const std::size_t threads : {1U, 2U}) {
        problem read = size;
        read.threads = threads;
        add("read_limit", dtype, read, read_limit_row<CodecCase>);
      }
    });
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
