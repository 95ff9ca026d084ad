// tiered_units: the rows of memory units, of which the hot ones are in RAM and all are in a file.
//
// A record is what a unit has in one layer, as bytes of the file: the rows of one kv head after the other, in blocks of 16, all
// keys and then all values. A unit that is filed is written to a staging buffer, which has the records of all layers, and from
// there to the file. Frames, in the storage of the cache, are filled from records; what they hold is nowhere else needed, so
// that a frame is given up without more ado.
#ifndef KVKEEP_MEMORY_TIERED_UNITS_HPP
#define KVKEEP_MEMORY_TIERED_UNITS_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kvkeep/core/arena.hpp"
#include "kvkeep/memory/hot_units.hpp"
#include "kvkeep/memory/unit_tiers.hpp"
#include "kvkeep/storage/spill_file.hpp"

KVKEEP_NAMESPACE_BEGIN
namespace detail {

/// What a tiered_units is built for.
struct tier_sizes {
  std::size_t layers = 0;  // that retrieve
  std::size_t units = 0;   // that a stream can fill
  std::size_t record = 0;  // bytes
  std::size_t frames = 0;  // of a layer
  std::size_t step = 0;    // units that one step can file, at most
  std::size_t head_dim = 0;
};

/// fill(self, layer, frame, record, room): decodes a record to a frame; room is [head_dim].
struct frame_filler {
  void* self = nullptr;
  void (*fill)(void*, std::size_t, std::size_t, std::span<const std::byte>, std::span<float>) noexcept = nullptr;
};

class tiered_units {
 public:
  tiered_units() = default;
  tiered_units(const tiered_units&) = delete;
  tiered_units(tiered_units&&) = delete;
  tiered_units& operator=(const tiered_units&) = delete;
  tiered_units& operator=(tiered_units&&) = delete;
  ~tiered_units() = default;  // whoever has the arena calls finish() before

  void lay_out(arena& memory, const tier_sizes& sizes, const unit_tiers& tiers) {
    sizes_ = sizes;
    hot.lay_out(memory, sizes.layers, sizes.units, sizes.frames);
    sums_ = memory.take<std::uint64_t>(sizes.units * sizes.layers);
    const std::size_t before = memory.used();
    const std::size_t buffers = tiers.background ? 2 * sizes.step : sizes.step;
    const std::size_t reads = 2 * tiers.read_ahead;
    staging_ = memory.take<std::byte>(buffers * unit_bytes());
    record_ = memory.take<std::byte>(sizes.record);
    read_records_ = memory.take<std::byte>(reads * sizes.record);
    staging_bytes_ = memory.used() - before;
    room_ = memory.take<float>(sizes.head_dim);
    read_rooms_ = memory.take<float>(reads * sizes.head_dim);
    buffers_ = memory.take<buffer>(buffers);
    reads_ = memory.take<read>(reads);
    for (buffer& b : buffers_) b = {.self = this};  // finish() looks at them, also where no file could be made
    for (read& r : reads_) r = {.self = this};
  }
  /// Begins with nothing: makes the file.
  [[nodiscard]] result<void> open(const unit_tiers& tiers, const frame_filler& filler) {
    auto made = spill_file::try_make(tiers.path);
    if (!made) return made.error();
    file_ = std::move(*made);
    background_ = tiers.background;
    filler_ = filler;
    hot.rule(tiers.keeps);
    hot.reset();
    return {};
  }
  /// Forgets all units.
  [[nodiscard]] result<void> clear() {
    finish();
    if (auto ok = file_.empty(); !ok) return ok;
    for (buffer& b : buffers_) b.state = buffer_state::idle;
    hot.reset();
    return {};
  }
  /// Waits for everything in the background.
  void finish() noexcept {
    for (buffer& b : buffers_) wait_while(b.state, buffer_state::writing);
    for (read& r : reads_) wait_while(r.busy, 1U);
  }

  /// Bytes of staging buffers and records.
  [[nodiscard]] std::size_t staging_bytes() const noexcept { return staging_bytes_; }
  /// Bytes of the file when it is full.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return std::uint64_t{sizes_.units} * unit_bytes(); }
  [[nodiscard]] tier_counters counters() const noexcept {
    tier_counters out = counted_;
    out.bytes_read = std::atomic_ref(bytes_read_).load();
    out.bytes_written = std::atomic_ref(bytes_written_).load();
    return out;
  }

  // Filing.

  /// Makes room for so many units to be filed, by writing others.
  [[nodiscard]] result<void> make_room(std::size_t units) {
    std::size_t idle = 0;
    bool waited = false;
    for (buffer& b : buffers_) idle += state_of(b.state) == buffer_state::idle ? 1U : 0U;
    for (buffer& b : buffers_) {
      if (idle >= units) break;
      if (state_of(b.state) != buffer_state::writing) continue;
      wait_while(b.state, buffer_state::writing);
      waited = true;
      idle += state_of(b.state) == buffer_state::idle ? 1U : 0U;
    }
    for (buffer& b : buffers_) {
      if (idle >= units) break;
      if (state_of(b.state) == buffer_state::idle) continue;
      waited = true;
      if (auto ok = write(b); !ok) {
        ++counted_.stalls;
        return ok;
      }
      b.state = buffer_state::idle;
      ++idle;
    }
    if (waited) ++counted_.stalls;
    return {};
  }
  /// The record of a unit and layer that is being filed, for which there is room; all 0 at first.
  [[nodiscard]] std::span<std::byte> staged(std::size_t unit, std::size_t layer) noexcept {
    std::size_t i = 0;
    while (i < buffers_.size() && !(buffers_[i].unit == unit && state_of(buffers_[i].state) == buffer_state::filling))
      ++i;
    if (i == buffers_.size()) {
      i = 0;
      while (state_of(buffers_[i].state) != buffer_state::idle) ++i;
      buffers_[i].unit = static_cast<std::uint32_t>(unit);
      buffers_[i].state = buffer_state::filling;
      const std::span<std::byte> all = staging_of(i);
      std::fill(all.begin(), all.end(), std::byte{0});
    }
    return staging_of(i).subspan(layer * sizes_.record, sizes_.record);
  }
  /// The units that were begun since the last call are complete.
  void file() {
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      buffer& b = buffers_[i];
      if (state_of(b.state) != buffer_state::filling) continue;
      for (std::size_t layer = 0; layer < sizes_.layers; ++layer) {
        const std::span<const std::byte> record = staging_of(i).subspan(layer * sizes_.record, sizes_.record);
        sums_[b.unit * sizes_.layers + layer] = checksum(record);
        const std::uint32_t f = hot.frame_of(layer, b.unit);
        if (f == hot_units::nowhere) continue;
        filler_.fill(filler_.self, layer, f, record, room_);
        hot.of(layer)[f].state = frame_state::ready;
      }
      b.state = buffer_state::filled;
      if (!background_) continue;
      b.state = buffer_state::writing;
      const bool taken = submit({[](void* context) noexcept {
                                   buffer& mine = *static_cast<buffer*>(context);
                                   const bool done = mine.self->write(mine).has_value();
                                   settle(mine.state, done ? buffer_state::idle : buffer_state::filled);
                                 },
                                 &b});
      if (!taken) b.state = buffer_state::filled;  // make_room writes it
    }
  }

  // Retrieval.

  /// Fills the frames of these units of a layer, which are fewer than there are frames and belong to the batch; filed(unit): whether
  /// there is a record, or its rows are read elsewhere. looks_up: they were looked up just now.
  template <class Filed>
  [[nodiscard]] result<void> fetch(std::size_t layer, std::span<const std::uint32_t> units, bool looks_up,
                                   const Filed& filed) {
    if (looks_up) hot.look_up(layer, units);
    for (const std::uint32_t unit : units) {
      std::uint32_t f = hot.frame_of(layer, unit);
      if (looks_up) ++(f == hot_units::nowhere ? counted_.misses : counted_.hits);
      if (f == hot_units::nowhere) f = enter(layer, unit);
      hot_frame& frame = hot.of(layer)[f];
      hot.join(frame);
      if (looks_up) hot.use(frame);
      if (!filed(unit)) continue;
      if (auto ok = load(layer, f); !ok) {
        lost_unit_ = unit;
        return ok;
      }
    }
    return {};
  }
  /// The unit that the last fetch to fail did not get.
  [[nodiscard]] std::uint32_t lost_unit() const noexcept { return lost_unit_; }
  /// Reads a filed unit in the background, if that can begin at once.
  void read_ahead(std::size_t layer, std::uint32_t unit) {
    if (hot.frame_of(layer, unit) != hot_units::nowhere || buffer_of(unit) != nullptr) return;
    for (std::size_t i = 0; i < reads_.size(); ++i) {
      read& r = reads_[i];
      if (state_of(r.busy) != 0) continue;
      const std::uint32_t f = hot.enter(layer, unit, is_settled);
      if (f == hot_units::nowhere) return;
      hot.of(layer)[f].state = frame_state::reading;
      r.layer = static_cast<std::uint32_t>(layer);
      r.frame = f;
      r.busy = 1;
      const bool taken = submit({[](void* context) noexcept {
                                   read& mine = *static_cast<read*>(context);
                                   mine.self->run(mine);
                                 },
                                 &r});
      if (taken) {
        ++counted_.read_ahead;
      } else {
        hot.of(layer)[f].state = frame_state::failed;
        r.busy = 0;
      }
      return;
    }
  }

  hot_units hot;

 private:
  enum class buffer_state : std::uint32_t { idle, filling, filled, writing };
  /// A staging buffer.
  struct buffer {
    tiered_units* self = nullptr;
    std::uint32_t unit = 0;
    buffer_state state = buffer_state::idle;
  };
  /// What reads one record in the background.
  struct read {
    tiered_units* self = nullptr;
    std::uint32_t layer = 0;
    std::uint32_t frame = 0;
    std::uint32_t busy = 0;
  };

  template <class T>
  [[nodiscard]] static T state_of(T& state) noexcept {
    return std::atomic_ref(state).load(std::memory_order_acquire);
  }
  template <class T>
  static void settle(T& state, T to) noexcept {
    std::atomic_ref(state).store(to, std::memory_order_release);
    std::atomic_ref(state).notify_all();
  }
  template <class T>
  static void wait_while(T& state, T busy) noexcept {
    while (state_of(state) == busy) std::atomic_ref(state).wait(busy, std::memory_order_acquire);
  }
  /// Whether the executor took a task: one that throws took none.
  [[nodiscard]] bool submit(background_task task) const noexcept {
#if KVKEEP_EXCEPTIONS
    try {
      background_.submit(task);
    } catch (...) {
      return false;
    }
#else
    background_.submit(task);
#endif
    return true;
  }
  static bool is_settled(hot_frame& f) noexcept { return state_of(f.state) != frame_state::reading; }

  [[nodiscard]] std::size_t unit_bytes() const noexcept { return sizes_.layers * sizes_.record; }
  [[nodiscard]] std::span<std::byte> staging_of(std::size_t i) const noexcept {
    return staging_.subspan(i * unit_bytes(), unit_bytes());
  }
  /// The buffer that has a unit which may not be in the file yet.
  [[nodiscard]] buffer* buffer_of(std::uint32_t unit) noexcept {
    for (buffer& b : buffers_) {
      if (b.unit == unit && state_of(b.state) != buffer_state::idle) return &b;
    }
    return nullptr;
  }
  [[nodiscard]] result<void> write(const buffer& b) {
    const auto i = static_cast<std::size_t>(&b - buffers_.data());
    if (auto ok = file_.write(std::uint64_t{b.unit} * unit_bytes(), staging_of(i)); !ok) return ok;
    std::atomic_ref(bytes_written_).fetch_add(unit_bytes());
    return {};
  }
  /// Reads the record of a unit and layer from the file.
  [[nodiscard]] result<void> read_record(std::size_t layer, std::uint32_t unit, std::span<std::byte> record) {
    const std::uint64_t at = std::uint64_t{unit} * unit_bytes() + layer * sizes_.record;
    if (auto ok = file_.read(at, record); !ok) return ok;
    std::atomic_ref(bytes_read_).fetch_add(record.size());
    if (checksum(record) == sums_[unit * sizes_.layers + layer]) return {};
    return make_error(
        errc::io, "path",
        fmt::format("{} bytes at {} of '{}' are not what was written there", record.size(), at, file_.path()));
  }
  void run(read& r) noexcept {
    const auto i = static_cast<std::size_t>(&r - reads_.data());
    hot_frame& frame = hot.of(r.layer)[r.frame];
    const std::span<std::byte> record = read_records_.subspan(i * sizes_.record, sizes_.record);
    const bool done = read_record(r.layer, frame.unit, record).has_value();
    if (done) {
      filler_.fill(filler_.self, r.layer, r.frame, record, read_rooms_.subspan(i * sizes_.head_dim, sizes_.head_dim));
    }
    settle(frame.state, done ? frame_state::ready : frame_state::failed);
    settle(r.busy, 0U);
  }
  /// Gives a unit a frame; those that are being read are waited for where no other is left.
  [[nodiscard]] std::uint32_t enter(std::size_t layer, std::uint32_t unit) {
    std::uint32_t f = hot.enter(layer, unit, is_settled);
    if (f != hot_units::nowhere) return f;
    ++counted_.stalls;
    for (hot_frame& frame : hot.of(layer)) wait_while(frame.state, frame_state::reading);
    return hot.enter(layer, unit, is_settled);
  }
  /// Sees to it that a frame has the rows of its unit.
  [[nodiscard]] result<void> load(std::size_t layer, std::uint32_t f) {
    hot_frame& frame = hot.of(layer)[f];
    if (state_of(frame.state) == frame_state::ready) return {};
    if (state_of(frame.state) == frame_state::reading) {
      ++counted_.stalls;
      wait_while(frame.state, frame_state::reading);
      if (frame.state == frame_state::ready) return {};
    }
    if (const buffer* const b = buffer_of(frame.unit); b != nullptr) {
      const auto i = static_cast<std::size_t>(b - buffers_.data());
      filler_.fill(filler_.self, layer, f, staging_of(i).subspan(layer * sizes_.record, sizes_.record), room_);
    } else {
      ++counted_.stalls;
      if (auto ok = read_record(layer, frame.unit, record_); !ok) return ok;
      filler_.fill(filler_.self, layer, f, record_, room_);
    }
    frame.state = frame_state::ready;
    return {};
  }

  tier_sizes sizes_;
  spill_file file_;
  background_ref background_;
  frame_filler filler_;
  tier_counters counted_;
  mutable std::uint64_t bytes_read_ = 0;     // by any thread
  mutable std::uint64_t bytes_written_ = 0;  // by any thread
  std::size_t staging_bytes_ = 0;
  std::uint32_t lost_unit_ = 0;
  std::span<std::uint64_t> sums_;      // [units][layers]: checksums of records
  std::span<std::byte> staging_;       // [buffers][layers][record]
  std::span<std::byte> record_;        // [record]
  std::span<std::byte> read_records_;  // [reads][record]
  std::span<float> room_;              // [head_dim]
  std::span<float> read_rooms_;        // [reads][head_dim]
  std::span<buffer> buffers_;
  std::span<read> reads_;
};

}  // namespace detail
KVKEEP_NAMESPACE_END

#endif
