// basic_step: an open step of a cache: attend every layer, then commit, or leave and nothing happened.
#ifndef KVKEEP_CACHE_STEP_HPP
#define KVKEEP_CACHE_STEP_HPP

#include <cstddef>
#include <string_view>
#include <utility>

#include "kvkeep/attention/evidence.hpp"
#include "kvkeep/cache/plan.hpp"
#include "kvkeep/codec/codec.hpp"
#include "kvkeep/core/executor.hpp"
#include "kvkeep/core/tensor.hpp"

KVKEEP_NAMESPACE_BEGIN

template <class Policy, codec KeyCodec, codec ValueCodec>
class cache;

/// An open step of a cache. Leaving its scope without commit undoes it. Movable; must not outlive the cache.
/// Core is what holds the step: a cache of one policy, or of any.
template <class Core>
class basic_step {
 public:
  basic_step(const basic_step&) = delete;
  basic_step& operator=(const basic_step&) = delete;
  basic_step(basic_step&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  basic_step& operator=(basic_step&& other) noexcept {
    if (this != &other) {
      leave();
      core_ = std::exchange(other.core_, nullptr);
    }
    return *this;
  }
  ~basic_step() { leave(); }

  /// Whether the step is still open.
  [[nodiscard]] bool open() const noexcept { return core_ != nullptr; }
  /// Tokens of the step; 0 when it is closed.
  [[nodiscard]] std::size_t tokens() const noexcept { return open() ? core_->step_tokens() : 0; }

  /// Stores the step's keys and values of one layer and computes the attention of its queries.
  /// q [n, query_heads, head_dim], k and v [n, kv_heads, head_dim] before RoPE (after it with rope::applied), out
  /// [n, query_heads, head_dim]; out must not overlap the others. Layers in any order, each once.
  /// Errors (nothing is changed): the step is closed; layer out of range or attended already; a shape or stride that does
  /// not fit. errc::io where memory units cannot be read from their file: the layer counts as not attended, out may be written
  /// in part, and the same can be tried again. Values are not scanned: a non-finite row changes only what reads it. Cost: one pass over what is read, for
  /// about 64 rows of queries at once; with ALiBi and where keys are scattered (cache_distance of any choice), one pass a
  /// query.
  /// `executor` shares the work out over its workers, at most cache_options::workers; default: this thread alone.
  [[nodiscard]] result<void> try_attend(std::size_t layer, rows_view<const float> q, rows_view<const float> k,
                                        rows_view<const float> v, rows_view<float> out,
                                        const executor_ref& executor = {}) {
    if (!open()) return closed("attend");
    return core_->attend(layer, q, k, v, out, executor);
  }
  /// The same, and gathers by-products of this layer into `evidence`, which was made with the cache's evidence_shape().
  template <by_products What>
  [[nodiscard]] result<void> try_attend(std::size_t layer, rows_view<const float> q, rows_view<const float> k,
                                        rows_view<const float> v, rows_view<float> out,
                                        attention_evidence<What>& evidence, const executor_ref& executor = {}) {
    static_assert(
        requires(Core & core) { core.evidence_shape(); },
        "kvkeep: attention_evidence needs a cache whose policy is known at compile time, not any_cache; see "
        "kvkeep/cache/cache.hpp");
    if (!open()) return closed("attend");
    if constexpr (requires(Core & core) { core.evidence_shape(); }) {
      return core_->attend(layer, q, k, v, out, executor, evidence);
    }
  }

  /// Makes the first `count` tokens (default all) and what the policy drops final, and closes the step; equals
  /// begin(count) with those tokens and commit(). commit(0) undoes the step.
  /// Errors (the step stays open and unchanged): the step is closed; a layer was not attended; count above the step's
  /// tokens; evidence missing, of the wrong number, NaN, or not asked for; a file of memory units that cannot be read when
  /// fewer tokens than n are attended once more. What a drop_listener throws comes out when all
  /// has happened and the step is closed.
  [[nodiscard]] result<void> try_commit(std::size_t count, const commit_evidence& evidence = {}) {
    if (!open()) return closed("commit");
    if (auto ok = core_->commit(count, evidence); !ok) return ok;
    Core* const done = std::exchange(core_, nullptr);
    if (count > 0) done->tell(drop_reason::evicted);
    return {};
  }
  [[nodiscard]] result<void> try_commit(const commit_evidence& evidence = {}) {
    if (!open()) return closed("commit");
    return try_commit(tokens(), evidence);
  }

#if KVKEEP_EXCEPTIONS
  void attend(std::size_t layer, rows_view<const float> q, rows_view<const float> k, rows_view<const float> v,
              rows_view<float> out, const executor_ref& executor = {}) {
    detail::unwrap(try_attend(layer, q, k, v, out, executor));
  }
  template <by_products What>
  void attend(std::size_t layer, rows_view<const float> q, rows_view<const float> k, rows_view<const float> v,
              rows_view<float> out, attention_evidence<What>& evidence, const executor_ref& executor = {}) {
    detail::unwrap(try_attend(layer, q, k, v, out, evidence, executor));
  }
  void commit(std::size_t count, const commit_evidence& evidence = {}) { detail::unwrap(try_commit(count, evidence)); }
  void commit(const commit_evidence& evidence = {}) { detail::unwrap(try_commit(evidence)); }
#endif

 private:
  template <class, codec, codec>
  friend class cache;
  friend class any_cache;
  explicit basic_step(Core* core) noexcept : core_(core) {}

  [[nodiscard]] static error closed(std::string_view call) {
    return detail::make_error(errc::wrong_state, call, fmt::format("{} on a step that is closed", call));
  }
  void leave() noexcept {
    if (core_ != nullptr) core_->abort();
    core_ = nullptr;
  }

  Core* core_;
};

KVKEEP_NAMESPACE_END

#endif
