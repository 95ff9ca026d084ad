// kv_store: the bytes of keys and values, in blocks of 16 tokens.
//
// A lane is one (layer, kv head) of a unit; all lanes have the same blocks, so a slot means the same token in each of
// them. Keys and values of a lane lie apart, each contiguous: keys [lanes][blocks][key block], values likewise. A store of
// both forms has the keys twice: turned to their positions, and raw. Which block belongs to whom is the planner's business
// (its block table); here are only addresses.
#ifndef KVKEEP_STORAGE_KV_STORE_HPP
#define KVKEEP_STORAGE_KV_STORE_HPP

#include <algorithm>
#include <cstddef>
#include <span>

#include "kvkeep/codec/codec.hpp"
#include "kvkeep/codec/cold_codec.hpp"
#include "kvkeep/core/arena.hpp"
#include "kvkeep/core/key_source.hpp"
#include "kvkeep/core/types.hpp"

KVKEEP_NAMESPACE_BEGIN

/// The keys and values of one lane, read-only: what kernels and select rules see.
template <codec KeyCodec, codec ValueCodec>
class lane_view {
 public:
  using key_codec = KeyCodec;
  using value_codec = ValueCodec;

  lane_view(const std::byte* keys, const std::byte* values, std::size_t head_dim) noexcept
      : keys_(keys), values_(values), head_dim_(head_dim) {}

  [[nodiscard]] std::size_t head_dim() const noexcept { return head_dim_; }
  /// The stored keys of a block, [head_dim][16] in the codec's packing.
  [[nodiscard]] const std::byte* key_block(std::size_t block) const noexcept {
    return keys_ + block * KeyCodec::key_block_bytes(head_dim_);
  }
  /// The stored values of a block, [16][head_dim] in the codec's packing.
  [[nodiscard]] const std::byte* value_block(std::size_t block) const noexcept {
    return values_ + block * ValueCodec::value_block_bytes(head_dim_);
  }
  /// One decoded key, [head_dim], as stored: rotated or raw.
  void copy_key(slot s, std::span<float> row) const noexcept {
    KeyCodec::read_key(key_block(index(s) / block_tokens), index(s) % block_tokens, row.first(head_dim_));
  }
  /// One decoded value, [head_dim].
  void copy_value(slot s, std::span<float> row) const noexcept {
    ValueCodec::read_value(value_block(index(s) / block_tokens), index(s) % block_tokens, row.first(head_dim_));
  }
  /// The stored key and value of a slot as ggml's bytes, [row_bytes] of the codecs.
  void export_row(slot s, std::span<std::byte> key, std::span<std::byte> value) const noexcept {
    KeyCodec::export_key(key_block(index(s) / block_tokens), index(s) % block_tokens, head_dim_, key.data());
    ValueCodec::export_value(value_block(index(s) / block_tokens), index(s) % block_tokens, head_dim_, value.data());
  }
  /// Dot products of query [head_dim] with the keys in slots first .. first + out.size() - 1, fp32 accumulation.
  void scores(std::span<const float> query, slot first, std::span<float> out) const noexcept {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t s = index(first) + i;
      out[i] = KeyCodec::dot_key(key_block(s / block_tokens), s % block_tokens, query);
    }
  }

 private:
  const std::byte* keys_;
  const std::byte* values_;
  std::size_t head_dim_;
};

/// Blocks behind the others, of lanes first_lane <= lane < last_lane.
struct filed_blocks {
  std::size_t blocks = 0;
  std::size_t first_lane = 0;
  std::size_t last_lane = 0;
};

/// All lanes of a cache. Not thread-safe for writes to the same lane; lanes are independent.
template <codec KeyCodec, codec ValueCodec>
class kv_store {
 public:
  using lane = lane_view<KeyCodec, ValueCodec>;

  /// Takes the bytes of `lanes` lanes of `blocks` blocks from the arena; `both`: of keys in both forms; `filed`: blocks more in
  /// some lanes, without turned keys where there are two forms.
  void lay_out(detail::arena& memory, std::size_t lanes, std::size_t blocks, std::size_t head_dim, bool both = false,
               const filed_blocks& filed = {}) {
    head_dim_ = head_dim;
    blocks_ = blocks;
    filed_ = filed;
    const std::size_t all = first_block(lanes);
    turned_keys_ = memory.take<std::byte>(both ? lanes * blocks * KeyCodec::key_block_bytes(head_dim) : 0);
    keys_ = memory.take<std::byte>(all * KeyCodec::key_block_bytes(head_dim));
    values_ = memory.take<std::byte>(all * ValueCodec::value_block_bytes(head_dim));
    key_bytes_ = (all + (both ? lanes * blocks : 0)) * KeyCodec::key_block_bytes(head_dim);
    value_bytes_ = all * ValueCodec::value_block_bytes(head_dim);
  }

  // Records: rows of lanes as they are in a file, in blocks of 16: those of keys, then those of values.

  /// Bytes of a record. `cold`: how its rows are stored, if not as here.
  [[nodiscard]] static std::size_t record_bytes(const cold_codec& cold, std::size_t head_dim,
                                                std::size_t blocks) noexcept {
    return blocks * (key_bytes_of(cold, head_dim) + value_bytes_of(cold, head_dim));
  }
  /// Copies a token's raw key and its value to a row of a record; room: [head_dim].
  void to_record(std::size_t lane_index, slot from, std::span<std::byte> record, std::size_t row,
                 const cold_codec& cold, std::span<float> room) const noexcept {
    const std::size_t key_block_bytes = key_bytes_of(cold, head_dim_);
    const std::size_t value_block_bytes = value_bytes_of(cold, head_dim_);
    const std::size_t blocks = record.size() / (key_block_bytes + value_block_bytes);
    std::byte* const key = record.data() + row / block_tokens * key_block_bytes;
    std::byte* const value = record.data() + blocks * key_block_bytes + row / block_tokens * value_block_bytes;
    const std::byte* const key_here = raw_key_block(lane_index, from);
    const std::byte* const value_here = value_block(lane_index, from);
    if (cold) {
      KeyCodec::read_key(key_here, index(from) % block_tokens, room);
      cold.write_key(key, row % block_tokens, room);
      ValueCodec::read_value(value_here, index(from) % block_tokens, room);
      cold.write_value(value, row % block_tokens, room);
    } else {
      KeyCodec::move_key(key_here, index(from) % block_tokens, key, row % block_tokens, head_dim_);
      ValueCodec::move_value(value_here, index(from) % block_tokens, value, row % block_tokens, head_dim_);
    }
  }
  /// Copies rows first_row .. first_row + count - 1 of a record to the slots from `first` on, as raw keys and values.
  void from_record(std::size_t lane_index, slot first, std::span<const std::byte> record, std::size_t first_row,
                   std::size_t count, const cold_codec& cold, std::span<float> room) noexcept {
    const std::size_t key_block_bytes = key_bytes_of(cold, head_dim_);
    const std::size_t value_block_bytes = value_bytes_of(cold, head_dim_);
    const std::size_t blocks = record.size() / (key_block_bytes + value_block_bytes);
    for (std::size_t done = 0; done < count;) {
      const std::size_t row = first_row + done;
      const slot to = to_slot(index(first) + done);
      const std::byte* const key = record.data() + row / block_tokens * key_block_bytes;
      const std::byte* const value = record.data() + blocks * key_block_bytes + row / block_tokens * value_block_bytes;
      std::byte* const key_here = raw_key_block(lane_index, to);
      std::byte* const value_here = value_block(lane_index, to);
      if (cold) {
        cold.read_key(key, row % block_tokens, room);
        KeyCodec::write_key(key_here, index(to) % block_tokens, room);
        cold.read_value(value, row % block_tokens, room);
        ValueCodec::write_value(value_here, index(to) % block_tokens, room);
      } else if (count - done >= block_tokens && row % block_tokens == 0 && index(to) % block_tokens == 0) {
        std::copy_n(key, key_block_bytes, key_here);
        std::copy_n(value, value_block_bytes, value_here);
        done += block_tokens - 1;
      } else {
        KeyCodec::move_key(key, row % block_tokens, key_here, index(to) % block_tokens, head_dim_);
        ValueCodec::move_value(value, row % block_tokens, value_here, index(to) % block_tokens, head_dim_);
      }
      ++done;
    }
  }

  [[nodiscard]] std::size_t key_bytes() const noexcept { return key_bytes_; }
  [[nodiscard]] std::size_t value_bytes() const noexcept { return value_bytes_; }

  /// A lane with its keys; in a store of both forms with the turned ones.
  [[nodiscard]] lane view(std::size_t lane_index) const noexcept {
    return {key_block(lane_index, slot{}), value_block(lane_index, slot{}), head_dim_};
  }
  /// The same lane with its raw keys, in a store of both forms; else view().
  [[nodiscard]] lane raw_view(std::size_t lane_index) const noexcept {
    return {raw_key_block(lane_index, slot{}), value_block(lane_index, slot{}), head_dim_};
  }
  /// Encodes one token: key and value [head_dim].
  void write(std::size_t lane_index, slot s, std::span<const float> key, std::span<const float> value) noexcept {
    KeyCodec::write_key(key_block(lane_index, s), index(s) % block_tokens, key);
    ValueCodec::write_value(value_block(lane_index, s), index(s) % block_tokens, value);
  }
  /// Encodes the raw key of a token, [head_dim], in a store of both forms.
  void write_raw(std::size_t lane_index, slot s, std::span<const float> key) noexcept {
    KeyCodec::write_key(raw_key_block(lane_index, s), index(s) % block_tokens, key);
  }
  /// Takes over one token that export_row wrote, bit for bit; not its raw key.
  void import_row(std::size_t lane_index, slot s, std::span<const std::byte> key,
                  std::span<const std::byte> value) noexcept {
    KeyCodec::import_key(key.data(), key_block(lane_index, s), index(s) % block_tokens, head_dim_);
    ValueCodec::import_value(value.data(), value_block(lane_index, s), index(s) % block_tokens, head_dim_);
  }
  /// One stored token as ggml's bytes, [row_bytes] of the codecs.
  void export_row(std::size_t lane_index, slot s, std::span<std::byte> key, std::span<std::byte> value) const noexcept {
    view(lane_index).export_row(s, key, value);
  }
  /// Copies a stored token to another slot of the same lane, bit for bit.
  void move(std::size_t lane_index, slot from, slot to) noexcept {
    if (!turned_keys_.empty()) {
      KeyCodec::move_key(key_block(lane_index, from), index(from) % block_tokens, key_block(lane_index, to),
                         index(to) % block_tokens, head_dim_);
    }
    file(lane_index, from, to);
  }
  /// The same without the turned key, in a store of both forms.
  void file(std::size_t lane_index, slot from, slot to) noexcept {
    KeyCodec::move_key(raw_key_block(lane_index, from), index(from) % block_tokens, raw_key_block(lane_index, to),
                       index(to) % block_tokens, head_dim_);
    ValueCodec::move_value(value_block(lane_index, from), index(from) % block_tokens, value_block(lane_index, to),
                           index(to) % block_tokens, head_dim_);
  }

 private:
  [[nodiscard]] static std::size_t key_bytes_of(const cold_codec& cold, std::size_t head_dim) noexcept {
    return cold ? cold.key_block_bytes(head_dim) : KeyCodec::key_block_bytes(head_dim);
  }
  [[nodiscard]] static std::size_t value_bytes_of(const cold_codec& cold, std::size_t head_dim) noexcept {
    return cold ? cold.value_block_bytes(head_dim) : ValueCodec::value_block_bytes(head_dim);
  }
  /// The place of a lane's first block among all, filed ones too.
  [[nodiscard]] std::size_t first_block(std::size_t lane_index) const noexcept {
    const std::size_t lanes_with_more = std::clamp(lane_index, filed_.first_lane, filed_.last_lane) - filed_.first_lane;
    return lane_index * blocks_ + lanes_with_more * filed_.blocks;
  }
  [[nodiscard]] std::byte* raw_key_block(std::size_t lane_index, slot s) const noexcept {
    return keys_.data() + (first_block(lane_index) + index(s) / block_tokens) * KeyCodec::key_block_bytes(head_dim_);
  }
  [[nodiscard]] std::byte* key_block(std::size_t lane_index, slot s) const noexcept {
    if (turned_keys_.empty()) return raw_key_block(lane_index, s);
    return turned_keys_.data() +
           (lane_index * blocks_ + index(s) / block_tokens) * KeyCodec::key_block_bytes(head_dim_);
  }
  [[nodiscard]] std::byte* value_block(std::size_t lane_index, slot s) const noexcept {
    return values_.data() +
           (first_block(lane_index) + index(s) / block_tokens) * ValueCodec::value_block_bytes(head_dim_);
  }

  std::span<std::byte> turned_keys_;  // [lanes][blocks][key block], in a store of both forms
  std::span<std::byte> keys_;         // [lanes][blocks, and filed ones of some][key block]
  std::span<std::byte> values_;       // the same, [value block]
  std::size_t blocks_ = 0;            // of every lane
  filed_blocks filed_{};
  std::size_t key_bytes_ = 0;
  std::size_t value_bytes_ = 0;
  std::size_t head_dim_ = 0;
};

KVKEEP_NAMESPACE_END

#endif
