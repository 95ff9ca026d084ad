#ifndef KVKEEP_EVAL_CONTESTANT_HPP
#define KVKEEP_EVAL_CONTESTANT_HPP

#include <kvkeep/kvkeep.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <variant>

namespace kvkeep_eval {

// The sliding window with re-computation: no KV policy, but written like one of the library's presets, so that its spec
// parses and prints alike.
struct recompute {
  std::size_t window = 256;  // tokens, the query included, >= 1

  static constexpr std::string_view name = "recompute";
  static constexpr std::string_view idea =
      "no policy but an oracle: a fresh dense run over the newest tokens at every sampled position";
  static constexpr auto parameters() {
    return std::tuple{
        kvkeep::token_parameter<recompute>{"window", &recompute::window, 1, "newest tokens, the query included"}};
  }
  [[nodiscard]] kvkeep::result<void> check() const { return kvkeep::check_parameters(*this); }
};

// One of the things compared.
struct contestant {
  std::string spec;
  std::variant<kvkeep::any_policy, recompute> what;

  [[nodiscard]] bool is_oracle() const noexcept { return std::holds_alternative<recompute>(what); }
};

// What a spec stands for; `tokens` is what a policy that keeps everything has room for, unless it says otherwise.
[[nodiscard]] contestant parse_contestant(const std::string& spec, std::size_t tokens);
// The same, where only policies will do: a failure for an oracle.
[[nodiscard]] kvkeep::any_policy parse_kv_policy(const std::string& spec, std::size_t tokens);

}  // namespace kvkeep_eval

#endif  // KVKEEP_EVAL_CONTESTANT_HPP
