// squeezed_position: the place of a token of a long input within the positions that a model was trained on.
//
// Source: code abertsch72/unlimiformer at e38b014, where keys that were retrieved by a decoder-only model are rotated at it.
#ifndef KVKEEP_POSITION_SQUEEZED_POSITION_HPP
#define KVKEEP_POSITION_SQUEEZED_POSITION_HPP

#include <cstddef>

#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// floor(index * window / tokens) of an input longer than the window, and index itself of one that fits: 0 .. window - 1, in
/// order, several tokens at one place where they must. Exact, any thread. Errors: tokens not in 1 .. 4294967295, window not in
/// 1 .. 2147483647, index not below tokens.
[[nodiscard]] inline result<position> try_squeezed_position(std::size_t index, std::size_t tokens, std::size_t window) {
  if (tokens < 1 || tokens > 4294967295) return detail::bad_argument("tokens", tokens, "1 .. 4294967295");
  if (window < 1 || window > 2147483647) return detail::bad_argument("window", window, "1 .. 2147483647");
  if (index >= tokens) return detail::bad_argument("index", index, fmt::format("0 .. tokens - 1 = {}", tokens - 1));
  return static_cast<position>(tokens > window ? index * window / tokens : index);
}

#if KVKEEP_EXCEPTIONS
/// try_squeezed_position that throws its error.
[[nodiscard]] inline position squeezed_position(std::size_t index, std::size_t tokens, std::size_t window) {
  return detail::unwrap(try_squeezed_position(index, tokens, window));
}
#endif

KVKEEP_NAMESPACE_END

#endif
