// A rotating buffer with kept first tokens, of another library. Which slot holds what is its own affair; which tokens a
// query sees is compared, as sets.
#include <algorithm>

#include "golden.hpp"
#include "stream.hpp"

namespace golden {
namespace {

/// The peer's buffer, slot by slot, as its table describes it.
class rotating_buffer {
 public:
  rotating_buffer(std::size_t max_size, std::size_t keep) : max_size_(max_size), keep_(keep) {}

  /// Appends n tokens; what attention sees, in slot order.
  const positions& append(std::size_t n) {
    if (n > 1) {
      slots_ = sorted(std::move(slots_));
      if (!slots_.empty()) cut(max_size_ - 1);
      for (std::size_t t = 0; t < n; ++t) slots_.push_back(next_++);
      index_ = slots_.size();
      return slots_;
    }
    if (slots_.size() > max_size_) {
      cut(max_size_);
      index_ = max_size_;
    }
    if (index_ == max_size_) index_ = keep_;
    if (index_ == slots_.size()) slots_.push_back(next_);
    slots_[index_++] = next_++;
    return slots_;
  }
  /// The columns of a mask for n new tokens.
  [[nodiscard]] positions columns(std::size_t n) const {
    if (n == 1) return rotating_buffer(*this).append(1);
    const position past = (std::min)(to_position(max_size_) - 1, next_);
    return range(next_ - past, next_ + to_position(n));
  }

 private:
  void cut(std::size_t left) {
    if (slots_.size() <= left) return;
    const auto first = slots_.begin() + static_cast<std::ptrdiff_t>(keep_);
    slots_.erase(first, first + static_cast<std::ptrdiff_t>(slots_.size() - left));
  }

  std::size_t max_size_;
  std::size_t keep_;
  std::size_t index_ = 0;  // slot of the next single token
  position next_ = 0;
  positions slots_;
};

template <class Policy>
void run_contents(const std::string& id, const json& row, const Policy& policy, std::size_t max_size, std::size_t keep,
                  tally& counted, row_count& rows) {
  std::size_t longest = 1;
  for (const json& op : list_field(row, "ops")) longest = (std::max)(longest, count_field(op, "append"));
  auto plan = plan_of(policy, longest);
  rotating_buffer buffer(max_size, keep);
  bool sees_more = false;
  for (const json& op : list_field(row, "ops")) {
    const std::size_t n = count_field(op, "append");
    const position first = plan.next_position();
    const std::string where = fmt::format("{}: append of {} at {}", id, n, first);
    const std::vector<query_reads> reads = feed(plan, n);
    for (std::size_t i = 0; i < n; ++i) {
      counted.same(where + ", our rule", positions_of(reads[i]),
                   sinks_and_window(first + to_position(i), keep, max_size - keep));
    }
    counted.same(where + ", held", plan.held(), positions_of(reads.back()));
    // One token: what it reads. Several: what they read, taken together.
    const positions ours = read_by_any(reads);
    const positions& slots = buffer.append(n);
    counted.same(where + ", returned", ours, sorted(slots));
    if (has(op, "expect_returned"))
      counted.same(where + ", the peer's slots", slots, positions_field(op, "expect_returned"));
    if (has(op, "expect_length")) counted.same(where + ", length", ours.size(), count_field(op, "expect_length"));
    sees_more = sees_more || reads.back().size() < ours.size();
  }
  if (sees_more) {
    rows.beside(
        id, "an append of several tokens returns more than max_size entries, and its last query may see them all",
        "every query reads the kept and its own newest tokens, max_size together; what the queries of the append read, "
        "taken together, is what the peer returns");
  } else {
    rows.compared();
  }
}

void run_trim(const std::string& id, const json& row, tally& counted, row_count& rows) {
  require(!has(row, "max_size"), "{}: trimming a rotating cache is not in the adapter", id);
  const json& ops = list_field(row, "ops");
  require(ops.size() >= 2, "{}: too few operations", id);
  const std::size_t tokens = count_field(ops[0], "append");
  // Before commit: commit(a) of the step that appended. After it: erase of the newest.
  auto plan = plan_of(kvkeep::dense{tokens}, tokens);
  plan.begin(tokens);
  plan.commit();
  std::size_t left = tokens;
  for (std::size_t i = 1; i < ops.size(); ++i) {
    const std::size_t most = plan.held_count();
    const std::size_t trimmed = (std::min)(count_field(ops[i], "trim"), most);
    plan.erase(to_position(most - trimmed), to_position(most));
    counted.same(id + ": trimmed by erase", most - plan.held_count(), count_field(ops[i], "expect_trimmed"));
    left -= trimmed;
    counted.same(id + ": left by erase", plan.held(), range(0, to_position(left)));
    auto other = plan_of(kvkeep::dense{tokens}, tokens);
    other.begin(tokens);
    other.commit(left);
    counted.same(id + ": left by commit(a)", other.held(), range(0, to_position(left)));
    counted.same(id + ": next position after commit(a)", static_cast<std::size_t>(other.next_position()), left);
  }
  rows.compared();
  rows.remark(
      id,
      "trimming is commit(a) of the open step, which also takes positions back, or erase of the newest once it is "
      "committed, after which the stream goes on at its position; asking for more than is held is for the caller to "
      "clamp");
}

void run_mask(const std::string& id, const json& row, tally& counted, row_count& rows) {
  const std::size_t max_size = count_field(row, "max_size");
  const std::size_t window = has(row, "window") ? (std::min)(count_field(row, "window"), max_size) : max_size;
  const std::size_t n = count_field(row, "query_len");
  std::size_t longest = n;
  for (const json& append : list_field(row, "appends")) longest = (std::max)(longest, as_count(append, "appends"));
  auto plan = plan_of(kvkeep::sliding_window{window}, longest);
  rotating_buffer buffer(max_size, 0);
  for (const json& append : list_field(row, "appends")) {
    (void)feed(plan, as_count(append, "appends"));
    buffer.append(as_count(append, "appends"));
  }
  const positions columns = buffer.columns(n);
  const position first = plan.next_position();
  const std::vector<query_reads> reads = feed(plan, n);
  const json& expect = field(row, "expect");
  const bool masked = has(expect, "mask");
  const bool needless = !masked && has(expect, "no_mask_needed");  // every column is visible; else: all but later ones
  require(masked || bool_field(expect, needless ? "no_mask_needed" : "plain_causal"), "{}: nothing expected", id);
  if (has(expect, "shape")) {
    counted.same(id + ": shape", positions_field(expect, "shape"), {to_position(n), to_position(columns.size())});
  }
  if (masked) counted.same(id + ": rows", list_field(expect, "mask").size(), n);
  for (std::size_t i = 0; i < n; ++i) {
    const positions ours = positions_of(reads[i]);
    positions visible;
    if (masked) {
      const json& mask = expect["mask"][i];
      counted.same(id + ": columns", mask.size(), columns.size());
      for (std::size_t c = 0; c < columns.size(); ++c) {
        require(as_count(mask[c], "mask") <= 1, "{}: a mask is 0 or 1", id);
        if (mask[c] == 1) visible.push_back(columns[c]);
      }
    } else {
      for (const position p : columns) {
        if (p <= first + to_position(i)) visible.push_back(p);
      }
      require(!needless || visible.size() == columns.size(), "{}: a mask is needed", id);
    }
    counted.same(fmt::format("{}: visible to query {}", id, i), ours, sorted(visible));
  }
  rows.compared();
}

}  // namespace

report run_mlx_rotating_cache(const json& file) {
  tally counted;
  row_count rows;
  for (const json& row : list_field(file, "cases")) {
    const std::string id = text_field(row, "id");
    const std::string kind = text_field(row, "kind");
    if (kind == "contents") {
      const std::size_t max_size = count_field(row, "max_size");
      const std::size_t keep = count_field(row, "keep");
      require(max_size > keep, "{}: nothing rotates", id);
      if (keep == 0) {
        run_contents(id, row, kvkeep::sliding_window{max_size}, max_size, keep, counted, rows);
      } else {
        run_contents(id, row, kvkeep::streaming_llm{.sinks = keep, .window = max_size - keep}, max_size, keep, counted,
                     rows);
      }
    } else if (kind == "trim") {
      run_trim(id, row, counted, rows);
    } else {
      require(kind == "mask", "{}: unknown kind {}", id, kind);
      run_mask(id, row, counted, rows);
    }
  }
  return {false, rows.summary(field(file, "cases").size(), counted)};
}

}  // namespace golden
