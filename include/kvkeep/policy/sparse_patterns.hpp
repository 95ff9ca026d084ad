// sparse_strided, sparse_fixed, log_sparse: sparse attention by position alone, as published: baselines that know nothing.
//
// Idea: a query reads few tokens, at places fixed beforehand, such that every token still reaches every later one through a
// few layers. Models are trained with such a pattern; under another's it is a control. Tokens that no query to come reads are
// freed at once, in the layers and heads where there are any: outputs are those of a cache that keeps all.
// Sources: Child, Gray, Radford, Sutskever, "Generating Long Sequences with Sparse Transformers", 2019, arXiv 1904.10509;
// Li et al., "Enhancing the Locality and Breaking the Memory Bottleneck of Transformer on Time Series Forecasting", NeurIPS
// 2019, arXiv 1907.00235.
#ifndef KVKEEP_POLICY_SPARSE_PATTERNS_HPP
#define KVKEEP_POLICY_SPARSE_PATTERNS_HPP

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "kvkeep/policy/parameter.hpp"
#include "kvkeep/policy/policy.hpp"
#include "kvkeep/policy/retain/still_read.hpp"
#include "kvkeep/policy/select/fixed.hpp"
#include "kvkeep/policy/select/log_sparse.hpp"
#include "kvkeep/policy/select/strided.hpp"

KVKEEP_NAMESPACE_BEGIN

namespace detail {

/// In spec strings.
inline constexpr std::array<std::pair<std::string_view, pattern_parts>, 3> parts_names{
    {{"merged", pattern_parts::merged}, {"by_layer", pattern_parts::by_layer}, {"by_head", pattern_parts::by_head}}};

}  // namespace detail

/// The distances of a pattern's keys.
struct pattern_distance {
  enum class counted : std::uint8_t {
    stream,  ///< query - key: as published. Distances grow with the stream, beyond what a model was trained for
    read,  ///< how many newer keys the query reads in that layer and head, as in a cache: no farther than there are keys. kvkeep's
  };
  counted by = counted::stream;

  static constexpr bool counts_newer = true;
  static constexpr std::array<std::pair<std::string_view, counted>, 2> names{
      {{"stream", counted::stream}, {"read", counted::read}}};
  [[nodiscard]] constexpr position operator()(const key_place& k) const noexcept {
    return by == counted::stream ? k.age() : k.newer;
  }
  [[nodiscard]] constexpr key_storage storage(const retention&) const noexcept { return {0, by == counted::read}; }
  [[nodiscard]] constexpr std::optional<position> largest(const retention& r) const noexcept {
    if (by == counted::stream) return r.oldest;
    return static_cast<position>(r.read) - 1;
  }
  [[nodiscard]] result<void> check() const {
    if (by <= counted::read) return {};
    return detail::bad_argument("distance", static_cast<int>(by), "stream or read");
  }
};

/// Query i reads the `stride` tokens before it (one less in the kernel's form, where parts are apart) and every stride-th one of all. Layers or heads that read the first part
/// alone keep stride + 1 tokens (stride in the kernel's form); all others keep max_tokens.
struct sparse_strided {
  std::size_t stride = 128;                     ///< tokens, >= 1 (l); published 128 (CIFAR-10, ImageNet 64x64)
  strided_band band = strided_band::paper;      ///< how many tokens the first part has
  pattern_parts parts = pattern_parts::merged;  ///< who reads which part
  pattern_distance::counted distance = pattern_distance::counted::stream;
  std::size_t max_tokens = 0;  ///< of the stream, >= 1; no default: memory is taken for all of them

  static constexpr std::string_view name = "sparse_strided";
  static constexpr std::string_view idea = "reads the tokens just before and every stride-th one of all before";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<sparse_strided>{"stride", &sparse_strided::stride, 1, "tokens between two of the far ones"},
        choice_parameter<sparse_strided, strided_band, 2>{
            "band",
            &sparse_strided::band,
            {{{"paper", strided_band::paper}, {"kernel", strided_band::kernel}}},
            "near tokens, the query included: stride + 1, or stride"},
        choice_parameter<sparse_strided, pattern_parts, 3>{"parts", &sparse_strided::parts, detail::parts_names,
                                                           "who reads near tokens and who far ones"},
        choice_parameter<sparse_strided, pattern_distance::counted, 2>{
            "distance", &sparse_strided::distance, pattern_distance::names, "in the stream, or among the keys read"},
        token_parameter<sparse_strided>{"max_tokens", &sparse_strided::max_tokens, 1,
                                        "tokens that fit; a longer stream is an error"}};
  }
  [[nodiscard]] constexpr strided pattern() const noexcept { return {stride, band, parts}; }
  [[nodiscard]] result<void> check() const { return kvkeep::check_parameters(*this); }
  [[nodiscard]] constexpr auto rules() const {
    return policy{still_read{pattern(), max_tokens, endless::kept}, pattern(), pattern_distance{distance},
                  each_token{}};
  }
};

/// Query i reads its block and the summary columns of all blocks. A block is freed but for its summary columns when the next
/// one begins: max_tokens tokens keep block + columns * (max_tokens / block - 1), about.
struct sparse_fixed {
  std::size_t block = 128;     ///< tokens, >= 1 (l); published 128 (Enwik8)
  std::size_t columns = 32;    ///< last tokens of a block, 1 .. block (c); published 32 (Enwik8)
  std::size_t sub_blocks = 1;  ///< columns of their own for so many heads; columns * sub_blocks <= block
  pattern_parts parts = pattern_parts::merged;  ///< who reads which part; published merged (Enwik8)
  pattern_distance::counted distance = pattern_distance::counted::stream;
  std::size_t max_tokens =
      0;  ///< of the stream, >= 1; no default: memory is taken for the summary columns of all of them

  static constexpr std::string_view name = "sparse_fixed";
  static constexpr std::string_view idea = "keeps and reads its block and the last columns of every block before";
  [[nodiscard]] static constexpr auto parameters() {
    return std::tuple{
        token_parameter<sparse_fixed>{"block", &sparse_fixed::block, 1, "tokens of a block"},
        token_parameter<sparse_fixed>{"columns", &sparse_fixed::columns, 1,
                                      "tokens of a block that all later ones read"},
        token_parameter<sparse_fixed>{"sub_blocks", &sparse_fixed::sub_blocks, 1,
                                      "kv heads that read columns of their own"},
        choice_parameter<sparse_fixed, pattern_parts, 3>{"parts", &sparse_fixed::parts, detail::parts_names,
                                                         "who reads the block and who the columns"},
        choice_parameter<sparse_fixed, pattern_distance::counted, 2>{
            "distance", &sparse_fixed::distance, pattern_distance::names, "in the stream, or among the keys read"},
        token_parameter<sparse_fixed>{"max_tokens", &sparse_fixed::max_tokens, 1,
                                      "tokens that fit; a longer stream is an error"}};
  }
  [[nodiscard]] constexpr fixed pattern() const noexcept { return {block, columns, sub_blocks, parts}; }
  [[nodiscard]] result<void> check() const {
    if (auto ok = kvkeep::check_parameters(*this); !ok) return ok;
    return pattern().check();
  }
  [[nodiscard]] constexpr auto rules() const {
    return policy{still_read{pattern(), max_tokens, endless::kept}, pattern(), pattern_distance{distance},
                  each_token{}};
  }
};

/// Query i reads the newest `window` tokens and those 1, 2, 4, 8 ... before them. With segments of `restart` tokens it keeps at
/// most so many, and the stream may be endless; else it keeps max_tokens.
struct log_sparse_attention {
  std::size_t window = 1;   ///< tokens, the query included, >= 1; published 1, in the authors' code ceil(log2 restart)
  std::size_t restart = 0;  ///< tokens after which the pattern begins anew, >= window; 0: never
  log_restarts restarts = log_restarts::segments;
  pattern_distance::counted distance = pattern_distance::counted::stream;
  std::size_t max_tokens = 0;  ///< of the stream; 0: any number, where segments bound what is kept; else >= 1

  static constexpr std::string_view name = "log_sparse";
  static constexpr std::string_view idea = "reads the newest tokens, and those 1, 2, 4, 8 ... tokens before them";
  [[nodiscard]] static constexpr auto parameters() {
    using preset = log_sparse_attention;
    return std::tuple{
        token_parameter<preset>{"window", &preset::window, 1, "newest tokens, the query included"},
        token_parameter<preset>{"restart", &preset::restart, 0, "tokens after which the pattern begins anew; 0: never"},
        choice_parameter<preset, log_restarts, 2>{
            "restarts",
            &preset::restarts,
            {{{"segments", log_restarts::segments}, {"repeated", log_restarts::repeated}}},
            "in segments of the stream, or counted back from every query"},
        choice_parameter<preset, pattern_distance::counted, 2>{"distance", &preset::distance, pattern_distance::names,
                                                               "in the stream, or among the keys read"},
        token_parameter<preset>{"max_tokens", &preset::max_tokens, 0,
                                "tokens that fit; a longer stream is an error; 0: any number, in segments only"}};
  }
  [[nodiscard]] constexpr log_sparse pattern() const noexcept { return {window, restart, restarts}; }
  [[nodiscard]] result<void> check() const {
    if (auto ok = kvkeep::check_parameters(*this); !ok) return ok;
    return still_read{pattern(), max_tokens, endless::kept}.check();
  }
  [[nodiscard]] constexpr auto rules() const {
    return policy{still_read{pattern(), max_tokens, endless::kept}, pattern(), pattern_distance{distance},
                  each_token{}};
  }
};

static_assert(policy_like<sparse_strided> && policy_like<sparse_fixed> && policy_like<log_sparse_attention>);

KVKEEP_NAMESPACE_END

#endif
