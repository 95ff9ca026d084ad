// Spec strings: every preset by name, every kind of mistake by name.
#include "kvkeep/policy/spec.hpp"

#include <gtest/gtest.h>

namespace kvkeep_test {
namespace {

std::string spec_of(std::string_view text, const kvkeep::spec_defaults& defaults = {}) {
  const auto p = kvkeep::try_parse_policy(text, defaults);
  return p ? p->spec() : p.error().message();
}
std::string fault_of(std::string_view text) {
  const auto p = kvkeep::try_parse_policy(text);
  return p ? "none" : p.error().argument();
}

TEST(Spec, ParsesAndPrints) {
  EXPECT_EQ(spec_of("streaming_llm"), "streaming_llm:sinks=4,window=512");
  EXPECT_EQ(spec_of("streaming_llm:window=252"), "streaming_llm:sinks=4,window=252");
  EXPECT_EQ(spec_of("streaming_llm:window=252,sinks=0"), "streaming_llm:sinks=0,window=252");
  EXPECT_EQ(spec_of("sliding_window:window=256"), "sliding_window:window=256");
  EXPECT_EQ(spec_of("lm_infinite:sinks=4,window=252"), "lm_infinite:sinks=4,window=252,limit_distance=window");
  EXPECT_EQ(spec_of("lm_infinite:limit_distance=251,window=252"),
            "lm_infinite:sinks=100,window=252,limit_distance=251");
  EXPECT_EQ(spec_of("lm_infinite:limit_distance=window"), "lm_infinite:sinks=100,window=2048,limit_distance=window");
  EXPECT_EQ(spec_of("streaming_llm_settled:sinks=1"), "streaming_llm_settled:sinks=1,window=512");
  EXPECT_EQ(spec_of("streaming_llm_published:order=append_then_evict,start=2"),
            "streaming_llm_published:start=2,recent=512,order=append_then_evict");
  EXPECT_EQ(spec_of("dense:max_tokens=77"), "dense:max_tokens=77");
  EXPECT_EQ(spec_of("dense", {.max_tokens = 5}), "dense:max_tokens=5");
  EXPECT_EQ(spec_of("dense:max_tokens=77", {.max_tokens = 5}), "dense:max_tokens=77");
  EXPECT_EQ(spec_of("random"), "random:sinks=4,window=256,count=256,seed=0");
  EXPECT_EQ(spec_of("random:seed=18446744073709551615,count=0"),
            "random:sinks=4,window=256,count=0,seed=18446744073709551615");
  EXPECT_EQ(spec_of("interval:window=1,count=508"), "interval:sinks=4,window=1,count=508");
  EXPECT_EQ(spec_of("sir_llm"), "sir_llm:sinks=4,window=1000,count=1000,decay=1");
  EXPECT_EQ(spec_of("sir_llm:decay=0.7,window=0"), "sir_llm:sinks=4,window=0,count=1000,decay=0.7");
  EXPECT_EQ(spec_of("sir_llm_published:decay=1e-3"),
            "sir_llm_published:start=4,recent=1000,entropies=1000,decay=0.001");
  EXPECT_EQ(spec_of("sparse_strided", {.max_tokens = 9}),
            "sparse_strided:stride=128,band=paper,parts=merged,distance=stream,max_tokens=9");
  EXPECT_EQ(spec_of("sparse_strided:band=kernel,parts=by_layer,distance=read,max_tokens=7"),
            "sparse_strided:stride=128,band=kernel,parts=by_layer,distance=read,max_tokens=7");
  EXPECT_EQ(spec_of("sparse_fixed:parts=by_head,sub_blocks=4,max_tokens=7"),
            "sparse_fixed:block=128,columns=32,sub_blocks=4,parts=by_head,distance=stream,max_tokens=7");
  EXPECT_EQ(spec_of("log_sparse:restart=64"),
            "log_sparse:window=1,restart=64,restarts=segments,distance=stream,max_tokens=0");
  EXPECT_EQ(spec_of("log_sparse:window=6,restart=64,restarts=repeated", {.max_tokens = 500}),
            "log_sparse:window=6,restart=64,restarts=repeated,distance=stream,max_tokens=500");
  EXPECT_EQ(spec_of("unlimiformer:chooses=kv_head,window=64", {.max_tokens = 500}),
            "unlimiformer:sinks=0,window=64,count=window,at=window,ceiling=none,first_layer=0,last_layer=1000,chooses="
            "kv_head,"
            "max_tokens=500");
  for (const auto& spec : kvkeep::policy_specs()) {
    const std::string whole = spec_of(spec.name, {.max_tokens = 9});
    EXPECT_EQ(spec_of(whole), whole) << "what is printed parses to the same";
  }
}

TEST(Spec, NamesEveryMistake) {
  EXPECT_EQ(fault_of("nonsense"), "policy");
  EXPECT_NE(spec_of("nonsense").find("streaming_llm_published"), std::string::npos) << "says what there is";
  EXPECT_EQ(fault_of(""), "policy");
  EXPECT_EQ(fault_of(" streaming_llm"), "policy");
  EXPECT_EQ(fault_of("streaming_llm:windows=3"), "windows");
  EXPECT_NE(spec_of("streaming_llm:windows=3").find("it has: sinks, window"), std::string::npos);
  for (const char* const bad :
       {"streaming_llm:window=0", "streaming_llm:window=-3", "streaming_llm:window=nan", "streaming_llm:window=3.5",
        "streaming_llm:window=2147483648", "streaming_llm:window=1 ", "streaming_llm:window=99999999999999999999999",
        "streaming_llm:window=0x10"}) {
    EXPECT_EQ(fault_of(bad), "window") << bad;
    EXPECT_NE(spec_of(bad).find("allowed: 1 .. 2147483647"), std::string::npos) << spec_of(bad);
  }
  for (const char* const bad : {"0", "-0.5", "1.5", "nan", "inf", "0.5x", "1e-400", " 1"}) {
    const std::string spec = fmt::format("sir_llm:decay={}", bad);
    EXPECT_EQ(fault_of(spec), "decay") << bad;
    EXPECT_NE(spec_of(spec).find("allowed: greater than 0, up to 1"), std::string::npos) << spec_of(spec);
  }
  EXPECT_EQ(fault_of("streaming_llm:window=3,window=3"), "window");
  EXPECT_EQ(fault_of("streaming_llm:sinks=0,window=0"), "window");
  EXPECT_EQ(fault_of("streaming_llm:"), "policy spec");
  EXPECT_EQ(fault_of("streaming_llm:window"), "policy spec");
  EXPECT_EQ(fault_of("streaming_llm:window="), "policy spec");
  EXPECT_EQ(fault_of("streaming_llm:window=3,"), "policy spec");
  EXPECT_EQ(fault_of("streaming_llm:=3"), "policy spec");
  EXPECT_EQ(fault_of("streaming_llm_published:start=0,recent=0"), "start + recent");
  EXPECT_EQ(fault_of("streaming_llm_published:order=sideways"), "order");
  EXPECT_EQ(fault_of("lm_infinite:limit_distance=-1"), "limit_distance");
  for (const char* const bad : {"random:seed=-1", "random:seed=18446744073709551616", "random:seed=1e9",
                                "random:seed=0x10", "random:seed=seed", "random:seed=1.0"}) {
    EXPECT_EQ(fault_of(bad), "seed") << bad;
    EXPECT_NE(spec_of(bad).find("allowed: 0 .. 18446744073709551615"), std::string::npos) << spec_of(bad);
  }
  EXPECT_EQ(fault_of("random:seed="), "policy spec");
  EXPECT_EQ(fault_of("random:window=0"), "window");
  EXPECT_EQ(fault_of("random:count=2147483648"), "count");
  EXPECT_EQ(fault_of("random:stride=2"), "stride");
  EXPECT_NE(spec_of("random:stride=2").find("it has: sinks, window, count, seed"), std::string::npos);
  EXPECT_EQ(fault_of("interval:window=0"), "window");
  EXPECT_EQ(fault_of("interval:count=-1"), "count");
  EXPECT_EQ(fault_of("interval:seed=1"), "seed");
  EXPECT_NE(spec_of("interval:seed=1").find("it has: sinks, window, count"), std::string::npos);
  EXPECT_EQ(fault_of("sparse_strided:max_tokens=9,stride=0"), "stride");
  EXPECT_EQ(fault_of("sparse_strided"), "max_tokens");
  EXPECT_EQ(fault_of("log_sparse:restart=-1"), "restart");
  EXPECT_EQ(fault_of("unlimiformer"), "max_tokens");
  EXPECT_EQ(fault_of("unlimiformer:count=10,max_tokens=9"), "count");
  EXPECT_EQ(fault_of("sparse_strided:band=129"), "band");
  EXPECT_NE(spec_of("sparse_strided:band=129").find("allowed: paper | kernel"), std::string::npos);
  EXPECT_NE(spec_of("sparse_fixed:parts=heads").find("allowed: merged | by_layer | by_head"), std::string::npos);
  EXPECT_EQ(fault_of("sparse_fixed:max_tokens=9,columns=129"), "columns");
  EXPECT_EQ(fault_of("sparse_fixed:max_tokens=9,sub_blocks=5"), "sub_blocks");
  EXPECT_EQ(fault_of("sparse_fixed"), "max_tokens");
  EXPECT_EQ(fault_of("sparse_fixed:l=4"), "l");
  EXPECT_EQ(fault_of("log_sparse"), "max_tokens");
  EXPECT_EQ(fault_of("log_sparse:restart=8,restarts=often"), "restarts");
  EXPECT_EQ(fault_of("log_sparse:restart=8,window=9"), "window");
  EXPECT_NE(spec_of("log_sparse:restart=8,distance=true").find("allowed: stream | read"), std::string::npos);
  EXPECT_EQ(fault_of("dense"), "max_tokens");
  EXPECT_EQ(fault_of("dense:max_tokens=0"), "max_tokens");
}

TEST(Spec, DescribesEveryPreset) {
  const auto specs = kvkeep::policy_specs();
  EXPECT_EQ(specs.size(), std::variant_size_v<kvkeep::any_preset>);
  for (const auto& spec : specs) {
    EXPECT_FALSE(spec.idea.empty());
    EXPECT_FALSE(spec.parameters.empty());
    for (const auto& p : spec.parameters) {
      EXPECT_FALSE(p.name.empty() || p.allowed.empty() || p.fallback.empty() || p.meaning.empty()) << spec.name;
    }
  }
}

}  // namespace
}  // namespace kvkeep_test
