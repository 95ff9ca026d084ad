// Sliding and static caches of another library, whose tokens are plain numbers.
//
// That library keeps the last W tokens (held), or in newer versions W - 1 and the one being computed (next_held). What a
// call returns to attention is what the queries of the step read, taken together; here each of them reads exactly its own
// window. Slots that were never written hold zero there and do not exist here.
#include <algorithm>

#include "golden.hpp"
#include "stream.hpp"

namespace golden {
namespace {

/// One call of the peer.
struct operation {
  positions tokens;  // values
  position first = 0;
  const json* expect = nullptr;
};

std::vector<operation> operations_of(const std::string& id, const json& row) {
  std::vector<operation> out;
  for (const json& op : list_field(row, "ops")) {
    const positions at = positions_field(op, "positions");
    operation o{positions_field(op, "tokens"), 0, &op};
    require(!at.empty() && at.size() == o.tokens.size(), "{}: tokens and positions do not match", id);
    o.first = at.front();
    require(at == range(o.first, o.first + to_position(at.size())), "{}: positions with gaps", id);
    out.push_back(std::move(o));
  }
  require(!out.empty(), "{}: no operations", id);
  return out;
}

positions without_zeros(positions values) {
  values.erase(std::remove(values.begin(), values.end(), 0), values.end());
  return values;
}

/// The kinds of cache in the table.
struct cache_kind {
  bool windowed = false;   // keeps the newest tokens; otherwise all
  bool allocated = false;  // slots that were not written hold zero
  bool keeps_one_less = false;
};

cache_kind kind_of(const std::string& id, const std::string& name) {
  if (name == "static_window" || name == "chunked_window") return {true, true, false};
  if (name == "dynamic_window") return {true, false, true};
  if (name == "static_full") return {false, true, false};
  require(name == "dynamic_full", "{}: unknown kind {}", id, name);
  return {false, false, false};
}

/// A row under a policy: compares contents and reads; returns what of it rests on a habit that ours does not share.
template <class Policy>
class replay {
 public:
  replay(std::string id, const cache_kind& kind, const Policy& policy, std::size_t window, std::size_t longest,
         tally& counted)
      : id_(std::move(id)),
        kind_(kind),
        window_(to_position(window)),
        longest_(longest),
        plan_(plan_of(policy, longest)),
        counted_(counted) {}

  /// Runs a call of which a later one overwrites all but the first `kept` tokens.
  void run(const operation& op, std::size_t kept, bool wrong_there) {
    require(op.first == plan_.next_position(), "{}: position {} is not the next", id_, op.first);
    values_.insert(values_.end(), op.tokens.begin(), op.tokens.end());
    const std::vector<query_reads> reads = feed(plan_, op.tokens.size(), kept);
    for (std::size_t i = 0; i < reads.size(); ++i) {
      const position query = op.first + to_position(i);
      counted_.same(fmt::format("{}: keys read by token {}", id_, query), positions_of(reads[i]), visible(query));
    }
    const positions returned = read_by_any(reads);
    values_.resize(static_cast<std::size_t>(op.first) + kept);
    const position next = plan_.next_position();
    counted_.same(id_ + ": held", plan_.held(), next == 0 ? positions{} : visible(next - 1));
    if (wrong_there) return;
    if (has(*op.expect, "expect_stored")) {
      compare("stored", kind_.keeps_one_less ? plan_.next_held() : plan_.held(), *op.expect, "expect_stored");
    }
    if (kept == op.tokens.size() && has(*op.expect, "expect_returned")) {
      compare("returned", returned, *op.expect, "expect_returned");
    }
  }

  /// A call at a position that a full cache has no room for.
  void run_refused(const operation& op) {
    feed_all(plan_, static_cast<std::size_t>(op.first - plan_.next_position()), longest_);
    const kvkeep::error e = refused(id_, plan_.try_begin(op.tokens.size()), "n");
    require(e.code() == kvkeep::errc::capacity, "{}: refused for another reason: {}", id_, e.message());
    counted_.same(id_ + ": held after the refusal", plan_.held(), range(0, op.first));
  }

 private:
  [[nodiscard]] positions visible(position query) const {
    return range(kind_.windowed ? (std::max)(query - window_ + 1, position{0}) : 0, query + 1);
  }
  void compare(const char* what, const positions& ours, const json& op, const char* name) {
    positions values;
    for (const position p : ours) values.push_back(values_[static_cast<std::size_t>(p)]);
    positions expected = positions_field(op, name);
    if (kind_.allocated) expected = without_zeros(expected);
    counted_.same(fmt::format("{}: {} at token {}", id_, what, plan_.next_position()), values, expected);
  }

  std::string id_;
  cache_kind kind_;
  position window_;
  std::size_t longest_;
  kvkeep::planner<Policy> plan_;
  tally& counted_;
  positions values_;  // by position
};

template <class Policy>
void run_row(const std::string& id, const std::string& kind_name, const std::vector<operation>& ops,
             const Policy& policy, std::size_t window, tally& counted, row_count& rows) {
  const cache_kind kind = kind_of(id, kind_name);
  std::size_t longest = 1;
  for (const operation& op : ops) longest = (std::max)(longest, op.tokens.size());
  replay<Policy> row(id, kind, policy, window, longest, counted);
  bool overwrites = false;
  bool wrong_there = false;
  bool zeros = false;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const operation& op = ops[i];
    if (has(*op.expect, "expect_error") && bool_field(*op.expect, "expect_error")) {
      row.run_refused(op);
      rows.remark(id, "a position out of bounds is a begin() that finds `dense` full");
      continue;
    }
    std::size_t kept = op.tokens.size();
    if (i + 1 < ops.size() && ops[i + 1].first < op.first + to_position(kept)) {
      require(ops[i + 1].first >= op.first, "{}: goes back over more than one call", id);
      kept = static_cast<std::size_t>(ops[i + 1].first - op.first);
      overwrites = true;
    }
    // Wrong in the peer's version: several tokens at once, past the window, that are not the prompt.
    if (kind_name == "static_window" && op.first > 0 && kept > 1 &&
        op.first + to_position(kept) > to_position(window)) {
      wrong_there = true;
    }
    for (std::size_t t = 0; t < kept; ++t)
      require(op.tokens[t] != 0, "{}: token 0 cannot be told from an empty slot", id);
    if (kind.allocated && has(*op.expect, "expect_stored")) {
      const positions stored = positions_field(*op.expect, "expect_stored");
      zeros = zeros || without_zeros(stored).size() < stored.size();
    }
    row.run(op, kept, wrong_there);
  }
  if (wrong_there) {
    rows.beside(id, "several tokens at once past the window of a static cache are stored wrongly",
                "every query reads its own window and the last of them stays");
  } else if (overwrites) {
    rows.beside(
        id, "a prompt padded with zeros, whose padding a later token overwrites",
        "commit(a) keeps the prompt without its padding and the next token follows it; same contents but for the "
        "zeros");
  } else {
    rows.compared();
    if (zeros) rows.remark(id, "slots that were never written (zero) left out");
  }
}

}  // namespace

report run_hf_sliding_window(const json& file) {
  tally counted;
  row_count rows;
  for (const json& row : list_field(file, "cases")) {
    const std::string id = text_field(row, "id");
    const std::string kind = text_field(row, "kind");
    const std::size_t window = count_field(row, "window");
    const std::vector<operation> ops = operations_of(id, row);
    if (kind_of(id, kind).windowed) {
      run_row(id, kind, ops, kvkeep::sliding_window{window}, window, counted, rows);
      continue;
    }
    std::size_t tokens = 0;
    for (const operation& op : ops) tokens = (std::max)(tokens, static_cast<std::size_t>(op.first) + op.tokens.size());
    run_row(id, kind, ops, kvkeep::dense{kind == "static_full" ? window : tokens}, window, counted, rows);
  }
  return {false, rows.summary(field(file, "cases").size(), counted)};
}

}  // namespace golden
