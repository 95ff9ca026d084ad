// The planner's answers: which slots to drop, what to move, how cache indices shift, which blocks are free.
#ifndef KVKEEP_CACHE_PLAN_HPP
#define KVKEEP_CACHE_PLAN_HPP

#include <cstdint>
#include <span>
#include <type_traits>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// A token that is no longer held.
struct token_drop {
  slot where{};     ///< the slot it had; free from now on
  position at = 0;  ///< its stream position
};

/// A row to copy, in every lane of the unit, before the next step writes. `to` was free: any order is safe.
struct token_move {
  slot from{};
  slot to{};
};

/// A run of held tokens whose place in the cache changed: positions first .. last moved by delta (negative: to the front).
/// What an engine that stores keys by cache index has to add to their positions.
struct index_shift {
  position first = 0;
  position last = 0;
  position delta = 0;
};

/// What one commit, reserve, erase or clear did to one unit. Token granularity: dropped and moves. Block granularity:
/// freed. Valid until the planner's next non-const call.
struct unit_plan {
  std::span<const token_drop> dropped{};  ///< oldest first
  std::span<const token_move> moves{};    ///< to be executed after dropped, before freed
  std::span<const index_shift> shifts{};  ///< oldest first
  std::span<const block_id> freed{};      ///< blocks that hold nothing any more
};

/// Why tokens were dropped.
enum class drop_reason : std::uint8_t {
  evicted,   ///< the policy, at commit
  reserved,  ///< the policy, at reserve()
  erased,    ///< erase()
  cleared,   ///< clear()
};

/// Told to a drop_listener after the tokens are gone.
struct drop_event {
  std::size_t unit = 0;
  drop_reason reason = drop_reason::evicted;
  std::span<const token_drop> dropped{};  ///< oldest first, at least one
  position next = 0;                      ///< position of the next token of the stream
};

/// A reference to a callable void(const drop_event&) that outlives the cache; empty by default. Called in the thread that
/// commits, once a unit that lost tokens, when everything has happened and the step is closed; it must not call the cache.
/// What it throws reaches the caller, and units after the one told about are then not told.
class drop_listener {
 public:
  drop_listener() = default;
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, drop_listener> && std::is_invocable_v<F&, const drop_event&>)
  drop_listener(F& callable)
      : object_(const_cast<std::remove_const_t<F>*>(&callable)),
        call_([](void* object, const drop_event& e) { (*static_cast<F*>(object))(e); }) {}

  [[nodiscard]] explicit operator bool() const noexcept { return call_ != nullptr; }
  void operator()(const drop_event& e) const { call_(object_, e); }

 private:
  void* object_ = nullptr;
  void (*call_)(void*, const drop_event&) = nullptr;
};

/// What a caller tells at commit; only where the policy asks for it, and then for every token committed.
struct commit_evidence {
  std::span<const float> surprisals{};  ///< -ln P(token | before), one a committed token; >= 0, infinity too
};

/// Tag of begin(n, may_shorten): the step may be committed in part. Policies that positions alone decide always allow it.
struct may_shorten_t {};
inline constexpr may_shorten_t may_shorten{};

/// Whether the planner moves rows to free blocks (a unit then never holds more than ceil(kept / 16) + 1 blocks).
enum class compaction : std::uint8_t { on, off };

/// How a planner is built.
struct planner_options {
  std::size_t max_step = 512;   ///< tokens of one step at most, 1 .. 2^20
  position first_position = 0;  ///< stream position of the first token, 0 .. 2^53 - 1
  compaction moves = compaction::on;
  drop_listener on_drop{};
};

KVKEEP_NAMESPACE_END

#endif
